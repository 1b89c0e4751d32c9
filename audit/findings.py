"""All findings of an audit."""

from collections.abc import Mapping, Sequence

from audit import file_findings, set_findings
from inspection import label_findings
from inspection.finding import Finding
from inspection.label_maps import Proposal
from inspection.split import Split
from utils.config.sections import Config


def find_all(
    splits: Mapping[str, Split], config: Config, proposals: Mapping[str, Proposal]
) -> list[Finding]:
    """Return everything that is wrong, errors first."""
    train, val = splits["train"], splits.get("val")
    findings: list[Finding] = []
    for name, split in splits.items():
        findings += file_findings.find(split)
        findings += set_findings.find_missing_statistics(split)
        findings += label_findings.find(split, proposals[name])
    findings += label_findings.find_undecided_white([s for s in (train, val) if s is not None])
    if val is not None:
        findings += set_findings.find_differences(train, val)
    findings += label_findings.find_classes(train, val)
    findings += set_findings.find(train, config)
    for name in ("val", "test"):
        if name in splits:
            findings += set_findings.find_leaks(train, splits[name])
    return sorted(findings, key=lambda finding: finding.severity)


def is_known(failure: Finding, findings: Sequence[Finding]) -> bool:
    """Return whether a failed step names a file, or repeats the message, of a finding."""
    # A file with the labels of several images is followed by the name of the image.
    files = {file.partition(": ")[0] for finding in findings for file in finding.files}
    messages = {finding.message for finding in findings}
    return any(text in failure.message for text in files | messages)
