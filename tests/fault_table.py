"""Faults that the tests have to catch, for `tests/deliberate_faults.py`."""

from __future__ import annotations


class Fault:
    """A fault, and the tests that have to fail with it.

    Args:
        name: What is wrong.
        file: Where, relative to the root.
        old: A text that occurs there once.
        new: The text in its place.
        tests: Ids of pytest, the quickest that hold it.
    """

    def __init__(self, name: str, file: str, old: str, new: str, *tests: str) -> None:
        self.name = name
        self.file = file
        self.old = old
        self.new = new
        self.tests = tests

    def apply(self, text: str) -> str:
        """Return the text of the file with the fault."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {self.old!r} does not occur once")
        return text.replace(self.old, self.new)


# fmt: off
LOSSES = [
    Fault("an ignored pixel changes a loss", "utils/losses/base.py",
          "return valid.to(dtype)", "return torch.ones_like(valid, dtype=dtype)",
          "tests/utils/losses/test_losses.py::test_feature_ignored_pixels_change_nothing"),
    Fault("a batch without a valid pixel divides by zero", "utils/losses/base.py",
          "return total / count.where(count > 0, 1)", "return total / count",
          "tests/utils/losses/test_losses.py::test_feature_all_ignored_is_zero"),
    Fault("label smoothing sums over the classes", "utils/losses/cross_entropy.py",
          "values.lerp(log_probabilities.mean(dim)", "values.lerp(log_probabilities.sum(dim)",
          "tests/utils/losses/test_cross_entropy.py::test_feature_equals_torch"),
    Fault("class weights are not normalized", "utils/losses/cross_entropy.py",
          "self.pixel_weights(labels, valid, total.dtype).sum()", "valid.sum().to(total.dtype)",
          "tests/utils/losses/test_cross_entropy.py::test_feature_equals_torch"),
    Fault("Dice counts probabilities of ignored pixels", "utils/losses/overlap.py",
          "self.area(probabilities * valid.unsqueeze(1))", "self.area(probabilities)",
          "tests/utils/losses/test_overlap.py::test_feature_equals_a_naive_loop"),
    Fault("the weight of auxiliary outputs is ignored", "base/weighted_losses.py",
          "factor = self.aux_weight if head else 1.0", "factor = 1.0",
          "tests/training/test_trainer.py::test_feature_loss_is_a_weighted_sum_over_losses_and_heads"),
]

METRICS = [
    Fault("an absent class counts as IoU 0", "utils/metrics/confusion.py",
          "part.double() / whole.clamp_min(1), torch.nan)",
          "part.double() / whole.clamp_min(1), 0.0)",
          "tests/utils/metrics/test_confusion.py::test_feature_absent_class_is_left_out"),
    Fault("the confusion matrix is transposed", "utils/metrics/confusion.py",
          "labels * k + ids, k * k + 1)", "ids * k + labels, k * k + 1)",
          "tests/utils/metrics/test_confusion.py::test_feature_equals_scikit_learn"),
    Fault("bootstrap intervals have no seed", "utils/metrics/bootstrap.py",
          "rng = np.random.default_rng(seed)", "rng = np.random.default_rng()",
          "tests/utils/metrics/test_bootstrap.py::test_feature_chunks_and_seed"),
    Fault("validation runs in training mode", "base/validator.py",
          "network.eval()", "network.train()",
          "tests/training/test_training_options.py::test_feature_average_is_validated_saved_and_predicts"),
    Fault("validation scores the weights, not their average", "trainer.py",
          "network = self.model if self.ema is None else self.ema.module", "network = self.model",
          "tests/training/test_training_options.py::test_feature_average_is_validated_saved_and_predicts"),
    Fault("validation repeats images over processes", "base/batches.py",
          "return slice(self.rank * size, (self.rank + 1) * size)",
          "return slice(self.rank * size, (self.rank + 1) * size + 1)",
          "tests/base/test_base_dataloader.py::test_feature_processes_share_whole_batches_where_nothing_is_trained"),
]

SAMPLES = [
    Fault("image and label are warped apart", "utils/transforms/warp.py",
          "_to_indices(matrix, x0, y0, 1),", "_to_indices(matrix, x0 + 1, y0, 1),",
          "tests/utils/transforms/test_warp.py::TestWarp::test_feature_flip_and_crop_equal_indexing"),
    Fault("labels are interpolated", "utils/transforms/warp.py",
          "        size,\n        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,",
          "        size,\n        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,",
          "tests/utils/transforms/test_warp.py::TestWarp::test_feature_scale_equals_resize"),
    Fault("padding is a class", "utils/transforms/warp.py",
          "padded_label = np.full((height, width), ignore_index, label.dtype)",
          "padded_label = np.zeros((height, width), label.dtype)",
          "tests/base/test_base_dataloader.py::test_feature_padding_is_never_a_class"),
    Fault("rotated corners are a class", "utils/transforms/warp.py",
          "borderMode=border,\n        borderValue=(ignore_index,),",
          "borderMode=border,\n        borderValue=(0,),",
          "tests/utils/transforms/test_augmentation.py::TestAugmentation::test_feature_no_class_outside_the_image"),
    Fault("the augmentation depends on the worker", "base/samples.py",
          "np.random.default_rng((Stream.SAMPLE, self.seed, epoch, index))",
          'np.random.default_rng((__import__("os").getpid(), self.seed, epoch, index))',
          "tests/base/test_base_dataloader.py::test_feature_workers_change_nothing"),
    Fault("the augmentation is the same in every epoch", "base/samples.py",
          "(Stream.SAMPLE, self.seed, epoch, index)", "(Stream.SAMPLE, self.seed, index)",
          "tests/base/test_base_dataloader.py::test_feature_samples_are_a_function_of_seed_epoch_and_index"),
    Fault("the order is the same in every epoch", "base/batches.py",
          "(Stream.ORDER, self.seed, epoch)", "(Stream.ORDER, self.seed)",
          "tests/base/test_base_dataloader.py::test_feature_the_order_is_a_function_of_seed_and_epoch"),
    Fault("the order is no function of the seed", "base/batches.py",
          "np.random.default_rng((Stream.ORDER, self.seed, epoch))", "np.random.default_rng()",
          "tests/base/test_base_dataloader.py::test_feature_the_order_is_a_function_of_seed_and_epoch"),
    Fault("an image that is added moves the others between splits", "base/base_dataloader.py",
          "return hashlib.sha256(name).digest(), index",
          "return hashlib.sha256(bytes([index])).digest(), index",
          "tests/base/test_base_dataloader.py::test_feature_val_split_stays_when_pictures_are_added"),
    Fault("8-bit images are not divided by 255", "utils/samples/normalize.py",
          "unit = 255 if images.dtype == torch.uint8 else 1", "unit = 1",
          "tests/utils/samples/test_normalize.py::test_feature_equals_the_formula"),
]

FILES = [
    Fault("a palette PNG is read as colours", "utils/files/image_io.py",
          "indices=header.colour == PALETTE", "indices=False",
          "tests/utils/files/test_bad_input.py::test_feature_mask_or_error"),
    Fault("16-bit masks are truncated", "utils/files/image_io.py",
          "return mask.astype(np.int32)", "return mask.astype(np.uint8)",
          "tests/utils/files/test_bad_input.py::test_feature_mask_or_error"),
    Fault("inference ignores the EXIF orientation", "prediction/source/image_source.py",
          'if rule.exif == "apply":', "if False:",
          "tests/utils/files/test_exif.py::test_feature_inference_says_or_applies_the_orientation"),
    Fault("a label that is no class is accepted", "utils/samples/labels.py",
          "self._refuse(mask[self._small_invalid[mask] != 0], name)", "pass",
          "tests/utils/files/test_image_io.py::test_exception_label_out_of_range"),
    Fault("a broken image is replaced unasked", "base/samples.py",
          "if not self.substitute:", "if False:",
          "tests/utils/files/test_bad_input.py::test_exception_nothing_is_skipped_unasked"),
    Fault("a list leads out of its folder", "utils/files/paths.py",
          "if is_safe or self._is_allowed(real):", "if True:",
          "tests/security/test_paths.py::test_exception_lists_of_folder"),
    Fault("training ignores the EXIF orientation of images", "base/base_dataset.py",
          "turn_upright(image.pixels, orientation)", "image.pixels",
          "tests/utils/files/test_exif.py::test_feature_one_rule_turns_image_and_mask"),
    Fault("training ignores the EXIF orientation of masks", "base/base_dataset.py",
          "return mask if self.exif != \"apply\" else turn_upright(mask, "
          "read_head(file).orientation)",
          "return mask",
          "tests/utils/files/test_exif.py::test_feature_a_mask_with_an_orientation_of_its_own"),
    Fault("any number of broken images is skipped", "base/base_dataloader.py",
          "if count > max(1, MAX_BAD_FRACTION * total):", "if False:",
          "tests/base/test_base_dataloader.py::test_exception_too_many_bad_samples"),
    Fault("convert.py follows a link out of its folder", "conversion/masks.py",
          'return output.inside(path.with_name(path.stem + ".png"))',
          'return output.path / path.with_name(path.stem + ".png")',
          "tests/security/test_paths.py::test_exception_masks_that_would_be_written_elsewhere"),
    Fault("a config in YAML builds objects", "utils/config/file.py",
          'ruamel.yaml.YAML(typ="safe", pure=True)', 'ruamel.yaml.YAML(typ="unsafe", pure=True)',
          "tests/security/test_config.py::test_exception_yaml_tags_build_nothing"),
    Fault("an array file may hold pickled objects", "utils/files/npy_file.py",
          "allow_pickle=False", "allow_pickle=True",
          "tests/security/test_code.py::test_feature_no_file_runs_what_it_reads"),
]

CHECKPOINTS = [
    Fault("a checkpoint may run code", "utils/checkpoint/weights_file.py",
          'torch.load(path, map_location="cpu", weights_only=True)',
          'torch.load(path, map_location="cpu", weights_only=False)',
          "tests/security/test_checkpoints.py::test_exception_no_payload_runs"),
    Fault("a checkpoint may unpack to more than it is", "utils/checkpoint/weights_file.py",
          "if packed or sum(", "if False and sum(",
          "tests/security/test_checkpoints.py::test_exception_archives_that_unpack_to_more"),
    Fault("a checkpoint is not fsynced", "utils/checkpoint/save_load.py",
          "            os.fsync(file.fileno())", "            pass",
          "tests/utils/checkpoint/test_save_load.py::test_feature_failed_save_leaves_the_old_file"),
    Fault("the rename of a checkpoint is not fsynced", "utils/checkpoint/save_load.py",
          "    _sync_folder(path.parent)", "    pass",
          "tests/utils/checkpoint/test_save_load.py::test_feature_a_checkpoint_survives_a_loss_of_power"),
    Fault("a checkpoint is written over the former one", "utils/checkpoint/save_load.py",
          "        os.replace(temporary, path)", "        shutil.copyfile(temporary, path)",
          "tests/faults/test_save_faults.py::test_feature_death_at_every_operation"),
    Fault("a damaged checkpoint is not found", "utils/checkpoint/save_load.py",
          "if comment != _MARK + _digest(content).encode() or", "if",
          "tests/utils/checkpoint/test_save_load.py::test_feature_every_flipped_byte_is_found"),
    Fault("the best model waits for save_period", "base/base_trainer.py",
          'names = ["best_model.pth"] if improved else []',
          "names = [\"best_model.pth\"] if improved and epoch % self.settings.save_period "
          "== 0 else []",
          "tests/training/test_trainer.py::test_feature_best_is_kept_whatever_the_save_period"),
    Fault("a score that is no number is the best", "base/base_trainer.py",
          "(self.best is None and not math.isnan(value))", "self.best is None",
          "tests/training/test_trainer.py::test_feature_not_a_number_is_never_the_best"),
    Fault("a run folder is not locked", "utils/runs/run_lock.py",
          "locked = _lock(descriptor)", "locked = True",
          "tests/utils/runs/test_run_lock.py::test_exception_a_run_folder_that_another_process_uses"),
]

RESUME = [
    Fault("a resumed epoch skips a batch", "base/batches.py",
          "yield from self.of_epoch(epoch, first)",
          "yield from self.of_epoch(epoch, first + (first > 0))",
          "tests/base/test_base_dataloader.py::test_feature_resuming_skips_batches_not_work"),
    Fault("a resumed run forgets the random states", "base/base_trainer.py",
          "set_random_state(checkpoint.rng)", "pass",
          "tests/training/test_resume.py::test_feature_random_generators_go_on_where_the_checkpoint_left_them"),
    Fault("dropout is no function of the step", "trainer.py",
          "seed_step(self.config.seed, self.step, rank())", "pass",
          "tests/training/test_trainer.py::test_feature_what_a_step_drops_depends_on_its_number_alone"),
    Fault("a resumed run forgets the moving average", "trainer.py",
          "self.ema.load_state_dict(checkpoint.ema)", "pass",
          "tests/training/test_training_options.py::test_feature_stopped_and_resumed_is_the_same_bit_for_bit[False]"),
    Fault("a resumed run forgets the loss scale", "trainer.py",
          "self.precision.load_state_dict(checkpoint.scaler)", "pass",
          "tests/training/test_training_options.py::test_feature_stopped_and_resumed_is_the_same_bit_for_bit[fp16]"),
    Fault("a resumed run forgets the state of the losses", "trainer.py",
          "self.losses.load_state_dicts(checkpoint.losses)", "pass",
          "tests/training/test_training_options.py::test_feature_stopped_and_resumed_is_the_same_bit_for_bit[False]"),
    Fault("a resumed run forgets the schedule", "base/base_trainer.py",
          "self.lr_scheduler.load_state_dict(state, steps=self.step, epochs=self.epoch)", "pass",
          "tests/training/test_training_options.py::test_feature_stopped_and_resumed_is_the_same_bit_for_bit[False]"),
    Fault("a resumed run forgets the optimizer", "base/base_trainer.py",
          "self.optimizer.load_state_dict(checkpoint.optimizer)", "pass",
          "tests/training/test_training_options.py::test_feature_stopped_and_resumed_is_the_same_bit_for_bit[False]"),
    Fault("a resumed run forgets the epoch of its best model", "base/base_trainer.py",
          "self.best_epoch = known if checkpoint.best_epoch is None else checkpoint.best_epoch",
          "self.best_epoch = known",
          "tests/training/test_resume.py::test_feature_a_resumed_run_ends_the_same[path-3]"),
    Fault("a resumed run begins its epoch anew", "base/base_trainer.py",
          "self.batch = checkpoint.batch", "self.batch = 0",
          "tests/faults/test_step_faults.py::test_feature_stopped_between_bad_losses_and_resumed"),
    Fault("a signal ends a run without a checkpoint", "trainer.py",
          "if self.stop_signal or (save_every is not None and self.step % save_every == 0):",
          "if save_every is not None and self.step % save_every == 0:",
          "tests/faults/test_kill_resume.py::test_feature_a_signal_at_a_moment[1-0-1]"),
]

STEPS = [
    Fault("gradients of the last step stay", "trainer.py",
          "        self.optimizer.zero_grad(set_to_none=True)\n\n        # Split",
          "\n        # Split",
          "tests/training/test_trainer.py::test_feature_a_step_is_the_textbook_step"),
    Fault("micro-batches weigh alike whatever is ignored", "trainer.py",
          "return pixels[1:] / pixels[0].clamp_min(1), signals",
          "return torch.ones_like(pixels[1:]) / (len(pixels) - 1), signals",
          "tests/training/test_training_options.py::test_feature_accumulated_gradient_is_that_of_the_batch"),
    Fault("a micro-batch is dropped", "base/micro_batches.py",
          "for index in range(count + 1)]", "for index in range(count + 1 - (count > 2))]",
          "tests/training/test_training_options.py::test_feature_parts_of_a_batch"),
    Fault("a step that ran out of memory counts in the statistics", "trainer.py",
          "            self.snapshot.restore()\n            "
          "self.optimizer.zero_grad(set_to_none=True)",
          "            self.optimizer.zero_grad(set_to_none=True)",
          "tests/faults/test_step_faults.py::test_feature_smaller_parts_of_a_batch[1-None]"),
    Fault("training goes on after a loss that is not finite", "trainer.py",
          "if not finite:", "if False:",
          "tests/faults/test_step_faults.py::test_exception_a_bad_loss_leaves_the_weights_as_they_were"),
    Fault("gradients are clipped while they are scaled", "trainer.py",
          "            self.precision.unscale(self.optimizer)\n", "",
          "tests/training/test_training_options.py::test_feature_gradients_are_clipped_by_their_norm"),
    Fault("the schedule moves twice a step", "trainer.py",
          "            self.lr_scheduler.step()",
          "            self.lr_scheduler.step()\n            self.lr_scheduler.step()",
          "tests/training/test_trainer.py::test_feature_the_schedule_moves_once_a_step"),
    Fault("the backbone has the larger learning rate", "utils/optim/param_groups.py",
          'groups[key]["lr"] = rate * found.factor', 'groups[key]["lr"] = rate / found.factor',
          "tests/utils/optim/test_param_groups.py::test_feature_groups_without_new_keys_are_those_of_before"),
    Fault("norms and biases decay", "utils/optim/param_groups.py",
          'product = parameter.ndim > 1 and name.endswith("weight")', "product = True",
          "tests/utils/optim/test_param_groups.py::test_feature_no_decay_follows_the_kind_of_module"),
    Fault("the moving average takes in the statistics of BatchNorm", "utils/optim/ema.py",
          "AveragedModel(model, multi_avg_fn=average)",
          "AveragedModel(model, multi_avg_fn=average, use_buffers=True)",
          "tests/training/test_training_options.py::test_feature_average_is_validated_saved_and_predicts"),
    Fault("max unpooling is off by one", "models/unpooling.py",
          "positions = (row * width + column)", "positions = (row * width + column + 1)",
          "tests/models/test_unpooling.py::test_feature_unpool"),
    Fault("weights of the first layer are not scaled to more channels", "models/pretrained.py",
          "weight[:, turns] * (channels / in_channels)", "weight[:, turns]",
          "tests/models/test_pretrained.py::test_feature_first_layer"),
]

PROCESSES = [
    Fault("SyncBatchNorm takes the mean of each process", "utils/distributed/sync_batch_norm.py",
          "mean = sums[0] / count", "mean = values.mean(axes)",
          "tests/utils/distributed/test_sync_batch_norm.py::test_feature_equals_the_statistics_of_the_whole_batch[2-5]"),
    Fault("SyncBatchNorm keeps what momentum replaces", "utils/distributed/sync_batch_norm.py",
          "self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)",
          "self.running_mean.lerp_(mean.to(self.running_mean.dtype), 1 - momentum)",
          "tests/utils/distributed/test_sync_batch_norm.py::test_feature_equals_the_statistics_of_the_whole_batch[2-5]"),
    Fault("gradients are divided by the number of processes", "trainer.py",
          "self.precision.backward(loss * fraction * world_size())",
          "self.precision.backward(loss * fraction)",
          "tests/utils/distributed/test_processes.py::test_feature_any_number_of_processes_trains_the_same"),
    Fault("gradients of the last micro-batch are not all-reduced", "trainer.py",
          "sync = contextlib.nullcontext() if last else self.no_sync()",
          "sync = self.no_sync() if last else contextlib.nullcontext()",
          "tests/utils/distributed/test_processes.py::test_feature_any_number_of_processes_trains_the_same"),
    Fault("a loss normalizes by its own process", "utils/distributed/collectives.py",
          "return _Sum.apply(tensor) if _whole_batch else tensor", "return tensor",
          "tests/utils/distributed/test_collectives.py::test_feature_every_loss_is_that_of_the_whole_batch[2-5]"),
]

PREDICTION = [
    Fault("overlapping tiles are not averaged", "prediction/predictor/views.py",
          "return total.div_(counts.to(total.device))", "return total",
          "tests/prediction/predictor/test_network.py::TestSliding::test_feature_equals_naive_where_that_covers"),
    Fault("mirrored logits are not mirrored back", "prediction/predictor/merge.py",
          "        scores = scores.flip(axes) if axes else scores\n", "",
          "tests/prediction/predictor/test_network.py::TestWhole::test_feature_flip_makes_mirrored_images_alike"),
    Fault("logits are resized with other corners", "prediction/predictor/views.py",
          'mode="bilinear", align_corners=True', 'mode="bilinear", align_corners=False',
          "tests/prediction/predictor/test_network.py::TestMultiscale::test_feature_equals_naive"),
    Fault("windows are not blended", "prediction/predictor/mosaic.py",
          "        if weights is not None:", "        if False:",
          "tests/prediction/predictor/test_windows.py::test_feature_blocks_equal_a_naive_mean_wherever_they_are_held"),
    Fault("bands of windows do not share their overlap", "prediction/predictor/mosaic.py",
          "scores[:, : shared.shape[1], : shared.shape[2]] += shared", "pass",
          "tests/prediction/predictor/test_windows.py::test_feature_blocks_equal_a_naive_mean_wherever_they_are_held"),
    Fault("inference ignores the threshold", "prediction/open_model.py",
          "        threshold=meta.threshold,\n", "",
          "tests/evaluation/test_threshold_search.py::test_feature_inference_uses_the_threshold"),
    Fault("inference replaces masks unasked", "prediction/outputs.py",
          "overwrite=replace)", "overwrite=True)",
          "tests/security/test_outputs.py::test_feature_inference_leaves_what_is_there"),
]

CONFIG = [
    Fault("an unknown argument is accepted", "utils/config/report.py",
          "                if is_error:", "                if False:",
          "tests/utils/config/test_check_config.py::test_exception_one_wrong_value"),
    Fault("a metric that does not exist may be monitored", "utils/config/check.py",
          "if metric not in metrics:", "if False:",
          "tests/utils/config/test_check_config.py::test_exception_one_wrong_value"),
    Fault("only the first problem of a config is reported", "utils/config/check.py",
          "        raise ConfigError(source, report.problems)\n    return Config(",
          "        raise ConfigError(source, report.problems[:1])\n    return Config(",
          "tests/utils/config/test_check_config.py::test_exception_all_problems_at_once"),
]

FAULTS = [
    *LOSSES, *METRICS, *SAMPLES, *FILES, *CHECKPOINTS, *RESUME, *STEPS, *PROCESSES, *PREDICTION,
    *CONFIG,
]
# fmt: on
