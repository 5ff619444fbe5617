"""What is refused of a wheel and its lock before any of its code runs, and in which words."""

from __future__ import annotations

import io
import struct
import time
import zipfile

import pytest

from portfolios.artifacts import wheel as wheels
from portfolios.artifacts.lock import check_complete, env_sha256, normalise_lock
from portfolios.artifacts.wheel import WheelFacts, WheelRefused, read_wheel
from tests.support.artifacts import make_wheel

A, B = "a" * 64, "b" * 64

LONG = " and ".join(["os_name=='x'"] * 9_000)  # once took seconds
NESTED = "(" * 480 + "os_name=='posix'" + ")" * 480


def read(**given: str) -> WheelFacts:
    return read_wheel(*make_wheel(**given))  # type: ignore[arg-type]


def refusal(filename: str, data: bytes) -> WheelRefused:
    with pytest.raises(WheelRefused) as caught:
        read_wheel(filename, data)
    return caught.value


def zip_of(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def with_member(info: zipfile.ZipInfo, text: str = "") -> tuple[str, bytes]:
    name, data = make_wheel()
    packed = io.BytesIO(data)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(info, text)
    return name, packed.getvalue()


def test_name_version_and_python_of_a_wheel_are_read_from_its_metadata() -> None:
    facts = read(metadata="Requires-Python: >=3.12\nSummary: Follows the trend\n")
    assert (facts.name, facts.version, facts.summary) == (
        "momentum-demo", "1.0", "Follows the trend",
    )  # fmt: skip
    assert (facts.python_requirement, facts.pythons[:2]) == (">=3.12", ("3.12", "3.13"))


def test_name_and_version_may_be_as_long_as_their_limits() -> None:
    name, version = "m" * 100, f"1.0+{'x' * 60}"
    assert (read(name=name, version=version).name, len(version)) == (name, 64)


@pytest.mark.parametrize(
    ("tag", "metadata", "requirement", "pythons"),
    [
        ("py3-none-any", "", "", ()),
        ("py3-none-any", "Requires-Python: >=3.8\n", "", ()),
        ("cp313-none-any", "", "3.13", ("3.13",)),
        ("cp313-cp313-manylinux_2_17_x86_64", "", "3.13", ("3.13",)),
        ("py3-none-any", "Requires-Python: ==3.12.*\n", "3.12", ("3.12",)),
        ("py3-none-any", "Requires-Python: >=3.12.4,<3.14\n", ">=3.12.4,<3.14", ("3.12", "3.13")),
    ],
)
def test_python_versions_follow_from_tag_and_requires_python(
    tag: str, metadata: str, requirement: str, pythons: tuple[str, ...]
) -> None:
    facts = read(tag=tag, metadata=metadata)
    assert (facts.python_requirement, facts.pythons) == (requirement, pythons)


def test_wheel_runs_under_python_versions_newer_than_its_tag_only_where_pip_allows_it() -> None:
    assert read(tag="py312-none-any").pythons[:2] == ("3.12", "3.13")
    assert read(tag="cp312-abi3-any").pythons[:2] == ("3.12", "3.13")
    assert read(tag="cp312-cp312-any").pythons == ("3.12",)


@pytest.mark.parametrize(
    ("filename", "data", "code"),
    [
        ("momentum.zip", b"", "not_a_wheel"),
        ("momentum_demo-1.0-py3-none-any.whl", b"not a zip", "not_a_wheel"),
        ("momentum_demo-1.0-py3-none-any.whl", zip_of(a="1"), "not_a_wheel"),
        ("momentum_demo-2.0-py3-none-any.whl", make_wheel()[1], "not_a_wheel"),
        ("other-1.0-py3-none-any.whl", make_wheel()[1], "not_a_wheel"),
        ("momentum_demo-1.0-py2-none-any.whl", make_wheel()[1], "other_python"),
        (*make_wheel(metadata="Requires-Python: >=3.99\n"), "other_python"),
        (*make_wheel(metadata="Requires-Python: whatever\n"), "not_a_wheel"),
        (*make_wheel(metadata="Requires-Dist: ~~~\n"), "not_a_wheel"),
        (*make_wheel(metadata="Requires-Dist: a @ https://example.org/a.whl\n"), "not_a_lock"),
        (*make_wheel(metadata="Requires-Dist: msgspec<0.1\n"), "unavailable_dependency"),
        (*make_wheel(metadata="Requires-Dist: a; os_name ~= 'posix'\n"), "not_a_wheel"),
        (*make_wheel(metadata=f"Requires-Dist: a; {'(' * 900}\n"), "not_a_wheel"),
        (*make_wheel(metadata=f"Requires-Dist: a; {NESTED}\n"), "not_a_wheel"),
        (*make_wheel(metadata="Requires-Dist: a\n" * 501), "not_a_wheel"),
        (*make_wheel(metadata=f"Requires-Python: >={'9' * 5_000}\n"), "not_a_wheel"),
    ],
)
def test_unusable_wheel_is_refused_with_its_code(filename: str, data: bytes, code: str) -> None:
    assert refusal(filename, data).code == code


def test_wheel_whose_metadata_has_no_name_is_not_said_to_be_renamed() -> None:
    data = zip_of(**{"momentum_demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\n"})
    told = str(refusal("momentum_demo-1.0-py3-none-any.whl", data))
    assert told.endswith(" has no Name or no Version in its METADATA.")


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [("m" * 101, "1.0", "The name in "), ("m", f"1.{'1' * 63}", "The version in ")],
)
def test_name_or_version_that_is_too_long_is_refused(name: str, version: str, told: str) -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    data = zip_of(**{f"{name}-{version}.dist-info/METADATA": metadata})
    assert str(refusal(f"{name}-{version}-py3-none-any.whl", data)).startswith(told)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../x.py", "a\\..\\b.py"])
def test_file_whose_path_leads_out_of_the_wheel_is_refused(path: str) -> None:
    assert "lead out" in str(refusal(*with_member(zipfile.ZipInfo(path))))


def test_wheel_with_a_file_name_that_is_not_utf_8_is_refused() -> None:
    name, data = with_member(zipfile.ZipInfo("ää"))
    assert refusal(name, data.replace("ää".encode(), b"\xff" * 4)).code == "not_a_wheel"


def test_symbolic_link_is_refused() -> None:
    link = zipfile.ZipInfo("momentum_demo/link")
    link.external_attr = 0o120777 << 16
    assert "lead out" in str(refusal(*with_member(link, "/etc")))


def test_wheel_is_refused_by_its_stated_unpacked_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MAX_UNPACKED_BYTES", 100_000)
    assert refusal(*with_member(zipfile.ZipInfo("big"), "0" * 200_000)).code == "payload_too_large"


def test_size_of_the_file_list_of_a_wheel_is_bounded_before_it_is_read() -> None:
    entry = b"PK\x01\x02" + bytes(42)
    ends = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry) * 400_000, 0, 0)
    began = time.process_time()
    assert refusal(make_wheel()[0], entry * 400_000 + ends).code == "payload_too_large"
    assert time.process_time() - began < 0.5


def test_control_characters_in_a_summary_are_escaped() -> None:
    assert read(metadata="Summary: a\x1b[31m\x00\u202e\n").summary == "a\\x1b[31m\\x00\\u202e"


def test_wheel_of_too_many_bytes_or_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MAX_FILES", 2)
    assert refusal(*make_wheel()).code == "payload_too_large"
    monkeypatch.setattr(wheels, "MAX_WHEEL_BYTES", 10)
    assert "10 are allowed" in str(refusal(*make_wheel()))


def test_packages_that_every_node_has_need_no_lock() -> None:
    assert read(metadata="Requires-Dist: msgspec>=0.18\nRequires-Dist: ginkgo\n").requires == ()


def test_dependency_without_a_lock_says_how_to_make_one() -> None:
    facts = read(metadata='Requires-Dist: numpy>=2\nRequires-Dist: pytest; extra == "dev"\n')
    with pytest.raises(WheelRefused) as caught:
        check_complete("momentum-demo 1.0", facts.requires, "")
    assert caught.value.code == "lock_needed"
    assert str(caught.value) == (
        "momentum-demo 1.0 needs numpy>=2, and no lock was given: make a lock with `uv pip compile "
        "pyproject.toml --generate-hashes -o requirements.lock` and give it with the wheel."
    )


@pytest.mark.parametrize("lock", [f"scipy==1.0 --hash=sha256:{A}", f"numpy==1.0 --hash=sha256:{A}"])
def test_lock_that_lacks_what_the_wheel_needs_is_refused(lock: str) -> None:
    facts = read(metadata="Requires-Dist: numpy>=2\n")
    with pytest.raises(WheelRefused) as caught:
        check_complete("momentum-demo 1.0", facts.requires, normalise_lock(lock))
    assert caught.value.code == "lock_incomplete"


def test_lock_is_normalised_so_that_equal_sets_of_packages_share_an_environment() -> None:
    uv = f"""# This file was autogenerated by uv
numpy==2.1.0 \\
    --hash=sha256:{B} \\
    --hash=sha256:{A}
    # via momentum-demo
Six==1.16.0 ; python_version < "3.13" --hash=sha256:{A}
"""
    other = f"""six==1.16.0 ; python_version < "3.13" --hash=sha256:{A}
numpy==2.1.0 --hash=sha256:{A} --hash=sha256:{B}"""
    assert normalise_lock(uv) == (
        f"numpy==2.1.0 --hash=sha256:{A} --hash=sha256:{B}\n"
        f'six==1.16.0 ; python_version < "3.13" --hash=sha256:{A}\n'
    )
    assert env_sha256(normalise_lock(uv)) == env_sha256(normalise_lock(other))
    assert env_sha256(normalise_lock("# nothing\n")) == ""


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("numpy==2.0", "has no --hash"),
        (f"numpy>=2.0 --hash=sha256:{A}", "does not pin one version"),
        (f"numpy==2.* --hash=sha256:{A}", "does not pin one version"),
        ("-e .", "is the option -e"),
        ("--index-url https://example.org/simple", "is the option --index-url"),
        ("-r other.txt", "is the option -r"),
        (f"a @ https://example.org/a.whl --hash=sha256:{A}", "names an address"),
        (f"https://example.org/a.whl --hash=sha256:{A}", "names an address"),
        (f"./a.whl --hash=sha256:{A}", "names an address or a folder"),
        (f"numpy==2.0 --hash=sha256:{A} --config-settings=x", "has an option other than"),
        (f"!!! --hash=sha256:{A}", "is not a package"),
        (f"a==1{'0' * 5_000} --hash=sha256:{A}", "is not a package"),
        (f"a==1 ; {NESTED} --hash=sha256:{A}", "is not a package"),
        (f"a==1 ; {LONG} --hash=sha256:{A}", "is not a package"),
        (f"numpy==2.0 --hash=sha256:{A}\nnumpy==2.1 --hash=sha256:{A}", "names numpy again"),
    ],
)
def test_line_of_a_lock_that_is_not_a_pinned_package_is_refused(line: str, what: str) -> None:
    with pytest.raises(WheelRefused) as caught:
        normalise_lock(line)
    assert caught.value.code == "not_a_lock"
    assert what in str(caught.value)


def test_preloaded_modules_stay_in_the_lock() -> None:
    lock = normalise_lock(f"# preload: numpy\nnumpy==2.0 --hash=sha256:{A}\n")
    assert lock.splitlines()[0] == "# preload: numpy"
