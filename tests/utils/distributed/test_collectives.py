"""Several processes against one: sums, losses and their gradients."""

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from tests.loss_cases import CLASS_WEIGHTS, OTHER_VALUES, case, make
from tests.processes import on_processes
from utils import losses
from utils.distributed.collectives import (
    all_gather_json,
    all_gather_rows,
    all_gather_text,
    all_reduce_sum,
    batch_rows,
    batch_sum,
    broadcast_text,
    is_main,
    rank,
    run_on_main_and_broadcast,
    whole_batch,
    world_size,
)
from utils.distributed.rendezvous import fresh_namespace

# Five images on two or three processes; on four, one of which has none where the batch is three.
BATCHES = [(2, 5), (3, 5), (4, 3)]


def variants():
    """Every loss as it is, weighted, and with every argument changed."""
    for name in losses.__all__:
        yield name, {}
        yield name, {"class_weights": CLASS_WEIGHTS}
        for key, value in OTHER_VALUES[name].items():
            yield name, {key: value}


def batch_of(images):
    """Logits (images, 4, 7, 6) and labels; the last image is ignored as a whole."""
    parts = [case(seed=seed) for seed in range(images)]
    logits, labels = (torch.cat([part[i][:1] for part in parts]) for i in (0, 1))
    labels[-1] = 255
    return logits, labels


def values_and_gradients(images):
    """Of every variant, on this process's share of a batch, as training does it."""
    logits, labels = batch_of(images)
    mine = slice(rank(), None, world_size())
    results = []
    for name, args in variants():
        loss = make(name, **args).train()
        own = logits[mine].clone().requires_grad_()
        with whole_batch():
            value = loss(own, labels[mine])
        value.backward()
        state = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
        results.append((value.detach(), own.grad, state))
    return results


@pytest.mark.parametrize("processes, images", BATCHES)
def test_feature_every_loss_is_that_of_the_whole_batch(processes, images, tmp_path):
    expected = values_and_gradients(images)
    found = on_processes(processes, values_and_gradients, images, folder=tmp_path)
    for place, (name, args) in enumerate(variants()):
        value, gradient, state = expected[place]
        for number, results in enumerate(found):
            own_value, own_gradient, own_state = results[place]
            case_name = f"{name} {args} on process {number}"
            assert own_value.item() == pytest.approx(value.item(), rel=1e-12), case_name
            mine = gradient[number::processes]
            assert torch.allclose(own_gradient, mine, rtol=1e-9, atol=1e-14), case_name
            for key, tensor in state.items():
                assert torch.allclose(own_state[key], tensor, rtol=1e-6), (case_name, key)


def exchange():
    """Each call once, on numbers that tell who sent them."""
    own = torch.full((rank() + 1, 2), float(rank() + 1), requires_grad=True)
    with whole_batch():
        total, rows = batch_sum(own.sum(0)), batch_rows(own)
        flags = batch_rows(torch.tensor([rank() == 1]))
    (total.sum() * 2 + (rows * torch.arange(1.0, 4).view(-1, 1)).sum()).backward()
    alone = batch_sum(own.sum(0)), batch_rows(own)
    return {
        "total": total.detach(), "rows": rows.detach(), "flags": flags, "gradient": own.grad,
        "alone": [tensor.detach() for tensor in alone],
        "text": broadcast_text(f"grüße von {rank()}"),
        "sum": all_reduce_sum(torch.tensor([2**62 - 1, rank()])), "main": is_main(),
    }  # fmt: skip


def test_feature_sums_rows_and_texts(tmp_path):
    """By hand: process 0 has one row of ones, process 1 two rows of twos."""
    first, second = on_processes(2, exchange, folder=tmp_path)
    for found in (first, second):
        assert found["total"].tolist() == [5, 5]
        assert found["rows"].tolist() == [[1, 1], [2, 2], [2, 2]]
        assert found["flags"].tolist() == [False, True]
        assert found["text"] == "grüße von 0"
        assert found["sum"].tolist() == [2**63 - 2, 1]
    # The gradient of a sum, twice, and that of the own rows, which count once, twice and thrice.
    assert first["gradient"].tolist() == [[3, 3]]
    assert second["gradient"].tolist() == [[4, 4], [5, 5]]
    assert (first["main"], second["main"]) == (True, False)
    # Outside of whole_batch() each process is alone.
    assert [tensor.tolist() for tensor in second["alone"]] == [[4, 4], [[2, 2], [2, 2]]]


class Mistake(ValueError):
    pass


def tell():
    """Text and plain data, with what is hard to carry: nothing, many bytes, no text, every bit."""
    numbers = all_gather_rows(torch.full((rank(), 2), 2**53 + rank()))

    def look():
        assert is_main()
        return [1, {"a": None}]

    def fail():
        raise Mistake("not there")

    try:
        run_on_main_and_broadcast(fail, Mistake)
        fault = None
    except Mistake as error:
        fault = str(error)
    return {
        "texts": all_gather_text(f"grüße\udcff {rank()}" * rank()),
        "nothing": all_gather_text(""),
        "data": all_gather_json({"third": 1 / 3 + rank(), "rest": [None, "a\udcff", (rank(),)]}),
        "rows": numbers,
        "found": run_on_main_and_broadcast(look, Mistake),
        "fault": fault,
    }


def test_feature_texts_and_data_of_all(tmp_path):
    for found in on_processes(3, tell, folder=tmp_path):
        assert found["texts"] == ["", "grüße\udcff 1", "grüße\udcff 2grüße\udcff 2"]
        assert found["nothing"] == ["", "", ""]
        data = [{"third": 1 / 3 + n, "rest": [None, "a\udcff", [n]]} for n in range(3)]
        assert found["data"] == data
        assert found["rows"].tolist() == [[2**53 + 1] * 2, *[[2**53 + 2] * 2] * 2]
        assert (found["found"], found["fault"]) == ([1, {"a": None}], "not there")


def test_feature_one_process_needs_no_others():
    tensor = torch.ones(2, 3)
    with whole_batch():
        assert batch_sum(tensor) is tensor
        assert batch_rows(tensor) is tensor
    assert all_reduce_sum(tensor) is tensor
    assert broadcast_text("a") == "a"
    assert (all_gather_text("a"), all_gather_json([1])) == (["a"], [[1]])
    assert all_gather_rows(tensor) is tensor
    assert run_on_main_and_broadcast(lambda: 3, ValueError) == 3
    assert (rank(), world_size(), is_main()) == (0, 1, True)


def test_feature_processes_that_were_started_again_meet():
    """In the store are the names of earlier lives; one of them ended before it was answered."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for life in range(3):
        if life == 1:  # one that ended before it had met anybody
            store.set("name/1", "forerunner")
            store.set("name/2", "forerunner")
        with ThreadPoolExecutor() as pool:
            clients = [dist.TCPStore("127.0.0.1", store.port, is_master=False) for _ in range(3)]
            found = [
                pool.submit(fresh_namespace, client, rank, 3, datetime.timedelta(seconds=20))
                for rank, client in reversed(list(enumerate(clients)))
            ]
            met = [place.result() for place in found]
        for number, place in enumerate(met):
            assert not place.check([f"word {number}"])
            place.set(f"word {number}", str(life))
        for place in met:
            assert [place.get(f"word {number}") for number in range(3)] == [str(life).encode()] * 3


def test_exception_one_does_not_come():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set("name/1", "forerunner")
    with pytest.raises(RuntimeError, match=r"\[1\]"):
        fresh_namespace(store, 0, 2, datetime.timedelta(seconds=0.2))
