"""Known vulnerabilities of the pinned packages: `python -m tests.package_audit`.

Fails where there are any. Where the registry cannot be asked, or pip-audit is not installed, it
says so and does not fail: a check that needs a network must not stop work without one.
"""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
SECONDS = 300
_UNREACHABLE = re.compile(r"connect|timed out|resolve|proxy|ssl|retries", re.I)


def main() -> int:
    """Run the program; returns its exit code: 1 for vulnerable packages."""
    if importlib.util.find_spec("pip_audit") is None:
        print("audit: skipped, pip-audit is not installed (requirements-dev.txt names it)")
        return 0
    # Every version is pinned, so nothing has to be resolved or installed.
    flags = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "15"]
    command = [sys.executable, "-m", "pip_audit", "-r", str(CONSTRAINTS), "-f", "json", *flags]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"audit: skipped, the registry did not answer within {SECONDS} s")
        return 0
    try:
        packages = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if _UNREACHABLE.search(ran.stderr):
            print(f"audit: skipped, the registry cannot be reached ({reason})")
            return 0
        print(f"audit: pip-audit failed: {reason}", file=sys.stderr)
        return 1
    return report(packages)


def report(packages: list[dict]) -> int:
    """Say what was found; 1 if something was."""
    bad = [package for package in packages if package.get("vulns")]
    for package in bad:
        for found in package["vulns"]:
            fixed = ", ".join(found.get("fix_versions", ())) or "none yet"
            name = f"{package['name']} {package['version']}"
            print(f"audit: {name}: {found['id']}, fixed in: {fixed}", file=sys.stderr)
    if bad:
        return 1
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    looked_up = len(packages) - len(unknown)
    if not looked_up:
        print("audit: skipped, the registry knows nothing of vulnerabilities")
        return 0
    print(f"audit: nothing known of {looked_up} packages")
    if unknown:
        print(f"audit: not looked up: {', '.join(unknown)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
