"""What valuerec is made of, and whether any of it is known to be vulnerable.

python tools/audit.py vulnerabilities        # of the versions in constraints.txt, by pip-audit
python tools/audit.py sbom --out sbom.json   # of the installed environment, as CycloneDX JSON, by cyclonedx-bom

Both tools live in an environment of their own, `.audit`, so that they are no part of what they look at. Where they
can't be installed, or pip-audit can't reach its list of vulnerabilities, "NOT RUN" is what is said, with the reason: no
answer is no good news.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("pip-audit==2.10.1", "cyclonedx-bom==7.5.0")
SECONDS = 600


class NotRunError(Exception):
    """Why there is no answer."""


def tool(name: str, home: Path) -> str:
    """The tool's program, installed where it is not there yet.

    Raises:
        NotRunError: where it can't be.
    """
    program = home / "bin" / name
    if not program.is_file():
        try:
            venv.create(home, with_pip=True)
            run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *TOOLS], check=True)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise NotRunError(f"{name} can't be installed into {home} ({last_line(error)})") from error
    return str(program)


def run(command: list[str], check: bool = False) -> subprocess.CompletedProcess[str]:
    """A command's answer; SECONDS at most."""
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=check)


def last_line(error: Exception) -> str:
    """The line that says most, of a command's error."""
    said = str(getattr(error, "stderr", None) or error).strip()
    return said.splitlines()[-1] if said else type(error).__name__


def vulnerabilities(home: Path, constraints: Path) -> int:
    """Print what is known against the pinned versions; 1 where there is anything.

    Raises:
        NotRunError: where nothing could be learned.
    """
    command = [tool("pip-audit", home), "--requirement", str(constraints), "--no-deps", "--disable-pip"]
    try:
        done = run([*command, "--format", "json", "--progress-spinner", "off"])
    except subprocess.TimeoutExpired as error:
        raise NotRunError(f"pip-audit did not end within {SECONDS} s") from error
    try:
        audited = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        said = done.stderr.strip().splitlines()
        raise NotRunError(
            f"pip-audit had no answer ({said[-1] if said else f'exit code {done.returncode}'})"
        ) from error
    unknown = [each for each in audited if "skip_reason" in each]
    found = [(each, one) for each in audited for one in each.get("vulns", ())]
    for each, one in found:
        remedy = ", ".join(one.get("fix_versions", ())) or "none yet"
        print(f"{each['name']} {each['version']}: {one['id']}; fixed in: {remedy}")
    for each in unknown:
        print(f"{each['name']}: not looked at ({each['skip_reason']})")
    print(f"audit: {len(audited) - len(unknown)} packages looked at, {len(found)} known vulnerabilities.")
    return int(bool(found))


def sbom(home: Path, python: Path, out: Path) -> int:
    """Write the bill of materials of an environment.

    Raises:
        NotRunError: where it can't be made.
    """
    command = [tool("cyclonedx-py", home), "environment", str(python), "--pyproject", str(ROOT / "pyproject.toml")]
    try:
        run([*command, "--output-reproducible", "--of", "JSON", "--output-file", str(out)], check=True)
        components = json.loads(out.read_text(encoding="utf-8"))["components"]
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        raise NotRunError(f"cyclonedx-py gave no bill of materials ({last_line(error)})") from error
    print(f"sbom: {len(components)} components of {python} written to {out}.")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("vulnerabilities", "sbom"))
    parser.add_argument("--home", type=Path, default=ROOT / ".audit", help="the tools' own environment")
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument(
        "--python", type=Path, default=ROOT / ".venv" / "bin" / "python", help="of the environment to list"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "sbom.json")
    options = parser.parse_args()
    os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    try:
        if options.what == "sbom":
            code = sbom(options.home, options.python, options.out)
        else:
            code = vulnerabilities(options.home, options.constraints)
    except NotRunError as error:
        print(f"{options.what}: NOT RUN: {error}. Nothing is known either way.", file=sys.stderr)
        code = 1 if options.what == "sbom" else 0  # an audit asks the network; a bill of materials is a file one needs
    sys.exit(code)


if __name__ == "__main__":
    main()
