"""Who made a model file: a signature fits one file alone, and a file without one is refused where one is required."""

import base64
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl_cli.artifact import Member, open_artifact, read_signer, read_trusted, sign_artifact, write_artifact
from automl_cli.artifact.container import BLOBS, MANIFEST, MANIFEST_DIGEST
from automl_cli.artifact.signing import MOST_SIGNATURES, PASSPHRASE, SIGNATURES, Signature
from automl_cli.errors import BadArtifact, NoSpace, UsageError
from automl_cli.files import locked
from automl_cli.options import FitOptions
from automl_cli.runs import output_lock
from automl_cli.trial import Pipeline

pytest.importorskip("cryptography", reason="signatures need the extra 'signing'")

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHEAP = ("--trials", "1", "--include", "linear", "--folds", "2", "--quiet")
SSH_KEYGEN = shutil.which("ssh-keygen")
FACTS = {
    "created": "2026-01-01T00:00:00Z",
    "task": {"kind": "binary", "target": "t", "classes": ["no", "yes"], "metric": "roc_auc"},
    "schema": [],
    "frame": {},
}


def write_key(path: Path, *, private=None, passphrase: bytes | None = None, pem: bool = False) -> Path:
    """Write a private key, and its public one beside it, as ssh-keygen or as openssl does; return the private one."""
    key = private or Ed25519PrivateKey.generate()
    lock = form.NoEncryption() if passphrase is None else form.BestAvailableEncryption(passphrase)
    kind = form.PrivateFormat.PKCS8 if pem else form.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(form.Encoding.PEM, kind, lock))
    if pem:
        public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    else:
        public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b" name@host\n"
    path.with_name(path.name + ".pub").write_bytes(public)
    return path


def write_rows(path: Path, n: int, *, slope: float, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n).round(6)
    y = slope * x + 0.5 * rng.normal(size=n) > 0
    path.write_text("x,y\n" + "".join(f"{a},{'yes' if b else 'no'}\n" for a, b in zip(x, y, strict=True)))
    return path


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with the keys anna, ben and their .pub files."""
    folder = tmp_path_factory.mktemp("keys")
    write_key(folder / "anna")
    write_key(folder / "ben", pem=True)
    return folder


@pytest.fixture(scope="module")
def fitted(command, tmp_path_factory):
    """A folder with rows.csv, a model m.automl of it and another one, n.automl."""
    folder = tmp_path_factory.mktemp("fitted")
    write_rows(folder / "rows.csv", 120, slope=1.0, seed=0)
    for name, seed in (("m.automl", "0"), ("n.automl", "1")):
        done = command("fit", "rows.csv", "-t", "y", *CHEAP, "--seed", seed, "-o", name, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def model(fitted, tmp_path):
    """A copy of the model, with rows.csv beside it."""
    shutil.copy(fitted / "rows.csv", tmp_path)
    return Path(shutil.copy(fitted / "m.automl", tmp_path))


@pytest.fixture
def signed(model, keys):
    sign_artifact(model, read_signer(keys / "anna", {}))
    return model


def says(command, folder, *arguments, code=6):
    """Run a command that must end with this exit code and one line; return the line."""
    done = command(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert done.stdout == ""
    return line


# who may read what


@pytest.mark.parametrize("words", [("predict",), ("evaluate",), ("check",)])
def test_a_signed_model_is_used_and_any_other_is_refused(command, signed, keys, fitted, words) -> None:
    shutil.copy(fitted / "n.automl", signed.parent)
    line = [*words, "m.automl", "rows.csv", "--quiet", "--require-signature"]
    assert command(*line, keys / "anna.pub", cwd=signed.parent).returncode in (0, 8)
    other = says(command, signed.parent, *line, keys / "ben.pub")
    assert f"m.automl is signed by {read_signer(keys / 'anna', {}).key.fingerprint}" in other
    assert str(keys / "ben.pub") in other
    line[1] = "n.automl"
    assert "n.automl is not signed" in says(command, signed.parent, *line, keys / "anna.pub")


def test_inspect_says_who_signed_and_whether_that_is_known(command, signed, keys) -> None:
    key = read_signer(keys / "anna", {}).key.fingerprint
    assert key.startswith("SHA256:")
    line = ("inspect", "m.automl")
    shown = command(*line, cwd=signed.parent).stdout
    assert f"by {key} (not verified" in " ".join(shown.split())
    shown = command(*line, "--require-signature", keys / "anna.pub", cwd=signed.parent).stdout
    assert f"by {key} (verified)" in " ".join(shown.split())
    facts = json.loads(command(*line, "--json", cwd=signed.parent).stdout)
    assert facts["signatures"] == [{"key": key, "verified": False}]
    facts = json.loads(command(*line, "--json", "--require-signature", keys / "anna.pub", cwd=signed.parent).stdout)
    assert facts["signatures"] == [{"key": key, "verified": True}]
    assert "none of these keys" in says(command, signed.parent, *line, "--require-signature", keys / "ben.pub")


def test_a_manifest_cannot_claim_a_signature(command, model) -> None:
    content = entries(model)
    manifest = {**json.loads(content[MANIFEST]), "signatures": [{"key": "SHA256:x", "verified": True}]}
    text = json.dumps(manifest).encode()
    rewrite(model, {**content, MANIFEST: text, MANIFEST_DIGEST: hashlib.sha256(text).hexdigest()})
    assert json.loads(command("inspect", "m.automl", "--json", cwd=model.parent).stdout)["signatures"] == []


def test_the_requirement_can_stand_in_the_environment_and_in_the_settings(command, model, keys, monkeypatch) -> None:
    (model.parent / "automl.toml").write_text(f'[predict]\nrequire-signature = "{keys / "anna.pub"}"\n')
    assert "is not signed" in says(command, model.parent, "predict", "m.automl", "rows.csv")
    assert command("evaluate", "m.automl", "rows.csv", cwd=model.parent).returncode == 0
    monkeypatch.setenv("AUTOML_REQUIRE_SIGNATURE", str(keys / "anna.pub"))
    assert "is not signed" in says(command, model.parent, "evaluate", "m.automl", "rows.csv")


def test_nothing_of_a_refused_file_is_looked_at_but_its_manifest(command, model, keys) -> None:
    content = {name: data if not name.startswith(BLOBS) else b"" for name, data in entries(model).items()}
    rewrite(model, content)  # would be found at once
    line = says(command, model.parent, "predict", "m.automl", "none.csv", "--require-signature", keys / "anna.pub")
    assert "is not signed" in line


# signing


def test_signing_leaves_all_other_bytes_and_the_mode(command, model, keys) -> None:
    model.chmod(0o640)
    before = model.read_bytes()
    with zipfile.ZipFile(model) as archive:
        end = archive.start_dir
    done = command("sign", "m.automl", "--key", keys / "anna", cwd=model.parent)
    assert done.returncode == 0, done.stderr
    assert f"m.automl is signed by {read_signer(keys / 'anna', {}).key.fingerprint}" in done.stderr
    assert model.read_bytes()[:end] == before[:end]
    assert stat.S_IMODE(model.stat().st_mode) == 0o640
    assert sorted(path.name for path in model.parent.iterdir()) == ["m.automl", "rows.csv"]


def test_a_second_signature_by_the_same_key_changes_nothing_and_by_another_one_adds_to_it(
    command, signed, keys
) -> None:
    before = signed.read_bytes()
    done = command("sign", "m.automl", "--key", keys / "anna", cwd=signed.parent)
    assert (done.returncode, "was already signed" in done.stderr) == (0, True)
    assert signed.read_bytes() == before
    assert command("sign", "m.automl", "--key", keys / "ben", cwd=signed.parent).returncode == 0
    for name in ("anna.pub", "ben.pub"):
        assert open_artifact(signed, read_trusted(keys / name)).verified == read_trusted(keys / name).keys
    both = signed.parent / "both"
    both.write_text((keys / "anna.pub").read_text() + ssh_line(keys / "ben"))
    assert len(open_artifact(signed, read_trusted(both)).verified) == 2


def ssh_line(private: Path) -> str:
    blob = read_signer(private, {}).key.blob
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} ben\n"


def test_a_signature_of_the_key_that_does_not_fit_is_replaced(fitted, signed, keys) -> None:
    signer = read_signer(keys / "anna", {})
    content = {**entries(fitted / "n.automl"), signer.key.entry: entries(signed)[signer.key.entry]}
    other = rewrite(signed.with_name("n.automl"), content)
    with pytest.raises(BadArtifact, match="does not fit"):
        open_artifact(other, read_trusted(keys / "anna.pub"))
    assert sign_artifact(other, signer)
    assert open_artifact(other, read_trusted(keys / "anna.pub")).verified
    with zipfile.ZipFile(other) as archive:
        assert archive.testzip() is None
        assert archive.namelist().count(signer.key.entry) == 1


def test_a_link_and_a_file_with_something_in_front_are_signed_too(signed, model, keys) -> None:
    link = model.with_name("link.automl")
    link.symlink_to(model.name)
    assert sign_artifact(link, read_signer(keys / "ben", {}))
    assert link.is_symlink()
    assert len(open_artifact(model).signatures()) == 2
    model.write_bytes(b"#!/bin/sh\n" + model.read_bytes())
    assert sign_artifact(model, read_signer(write_key(model.with_name("key")), {}))
    assert len(open_artifact(model, read_trusted(keys / "anna.pub")).signatures()) == 3


def test_writing_signed_and_signing_what_was_written_give_the_same_bytes(tmp_path, keys) -> None:
    for part in ("model", "encoder"):
        (tmp_path / "fold_0" / part).mkdir(parents=True)
        (tmp_path / "fold_0" / part / "data.bin").write_bytes(os.urandom(1000) + bytes(10_000))
    member = Member(0, Pipeline("linear", "onehot", {}), 1.0, 0.1, (tmp_path / "fold_0",))
    signer = read_signer(keys / "anna", {})
    write_artifact(tmp_path / "first.automl", FACTS, [member])
    write_artifact(tmp_path / "second.automl", FACTS, [member], signer=signer)
    sign_artifact(tmp_path / "first.automl", signer)
    assert (tmp_path / "first.automl").read_bytes() == (tmp_path / "second.automl").read_bytes()


def test_a_full_disk_leaves_the_unsigned_file(model, keys) -> None:
    before = model.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), limits[1]))
    try:
        with pytest.raises(NoSpace):
            sign_artifact(model, read_signer(keys / "anna", {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert model.read_bytes() == before
    assert sorted(path.name for path in model.parent.iterdir()) == ["m.automl", "rows.csv"]


def test_a_process_that_is_killed_while_it_writes_leaves_the_unsigned_file(model, keys) -> None:
    before = model.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from automl_cli.cli import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) - 100}, resource.RLIM_INFINITY))\n"
        "sys.exit(run(['sign', 'm.automl', '--key', sys.argv[1]]))\n"
    )
    words = [sys.executable, "-c", code, str(keys / "anna")]
    done = subprocess.run(words, check=False, capture_output=True, cwd=model.parent, timeout=60)
    assert done.returncode == -signal.SIGXFSZ, done.stderr
    assert model.read_bytes() == before


def test_a_file_that_another_run_holds_is_not_signed(command, model, keys, monkeypatch) -> None:
    monkeypatch.setattr("automl_cli.cli.sign.WAIT", 0.0)
    with locked(output_lock(model), "it"):
        line = says(command, model.parent, "sign", "m.automl", "--key", keys / "anna", code=5)
    assert "in use by another run" in line


def test_what_is_no_model_or_damaged_is_not_signed(command, model, keys) -> None:
    line = ("sign", "m.automl", "--key", keys / "anna")
    content = entries(model)
    blob = next(name for name in content if name.startswith(BLOBS))
    before = rewrite(model, {**content, blob: content[blob] + b"x"}).read_bytes()
    assert "differs from its digest" in says(command, model.parent, *line)
    assert model.read_bytes() == before
    model.write_bytes(b"x,y\n")
    assert "is not a model file" in says(command, model.parent, *line)
    model.unlink()
    assert "no model file" in says(command, model.parent, *line)


@pytest.mark.skipif(SSH_KEYGEN is None, reason="there is no ssh-keygen")
def test_openssh_makes_the_keys_prints_the_fingerprints_and_verifies_the_signatures(model, tmp_path) -> None:
    key = tmp_path / "key"
    made = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-C", "anna", "-f", str(key))
    subprocess.run(made, check=True, timeout=30)
    signer = read_signer(key, {PASSPHRASE: "open sesame"})
    shown = subprocess.run(("ssh-keygen", "-lf", f"{key}.pub"), check=True, capture_output=True, text=True, timeout=30)
    assert shown.stdout.split()[1] == signer.key.fingerprint
    sign_artifact(model, signer)
    content = entries(model)
    (tmp_path / "sig").write_bytes(content[signer.key.entry])
    (tmp_path / "allowed").write_text("anna " + Path(f"{key}.pub").read_text())
    verify = ("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "anna", "-n", "automl-model", "-s", "sig")
    for text, code in ((content[MANIFEST], 0), (content[MANIFEST] + b" ", 255)):
        done = subprocess.run(verify, check=False, input=text, cwd=tmp_path, capture_output=True, timeout=30)
        assert done.returncode == code, done.stderr


# forgeries


def refused(path, keys, match):
    with pytest.raises(BadArtifact, match=match) as caught:
        open_artifact(path, read_trusted(keys / "anna.pub"))
    assert "\n" not in str(caught.value)


def test_a_signature_fits_no_other_file(fitted, signed, keys) -> None:
    entry = read_signer(keys / "anna", {}).key.entry
    content = {**entries(fitted / "n.automl"), entry: entries(signed)[entry]}
    refused(rewrite(signed, content), keys, "does not fit")


def test_a_changed_manifest_is_refused(signed, keys) -> None:
    content = entries(signed)
    text = content[MANIFEST].replace(b'"yes"', b'"YES"')
    assert text != content[MANIFEST]
    changed = {**content, MANIFEST: text, MANIFEST_DIGEST: hashlib.sha256(text).hexdigest()}
    refused(rewrite(signed, changed), keys, "does not fit")


def test_a_changed_blob_is_refused_before_it_is_parsed(command, signed, keys) -> None:
    content = entries(signed)
    changed = {name: data + b" " if name.startswith(BLOBS) else data for name, data in content.items()}
    rewrite(signed, changed)
    line = says(command, signed.parent, "predict", "m.automl", "rows.csv", "--require-signature", keys / "anna.pub")
    assert "differs from its digest" in line


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("which", [MANIFEST, MANIFEST_DIGEST, BLOBS, SIGNATURES])
def test_a_second_entry_of_the_same_name_is_refused(signed, keys, which) -> None:
    name = next(name for name in entries(signed) if name.startswith(which))
    with zipfile.ZipFile(signed, "a") as archive:
        archive.writestr(name, b"something else")
    refused(signed, keys, "two entries have one name")


def test_a_file_with_other_entries_is_no_more_trusted_by_them(signed, keys) -> None:
    with zipfile.ZipFile(signed, "a") as archive:
        archive.writestr("notes.txt", b"made later, read by nobody")
    assert open_artifact(signed, read_trusted(keys / "anna.pub")).verified


def _other_namespace(signature: Signature) -> bytes:
    text = signature.to_bytes().decode().split("\n")
    blob = base64.b64decode("".join(text[1:-2])).replace(b"automl-model", b"automl-movie")
    return "\n".join([text[0], base64.b64encode(blob).decode(), text[-2]]).encode()


HOSTILE = {
    "huge": lambda s: {s.key.entry: b"-----BEGIN SSH SIGNATURE-----" + b"A" * 10_000_000},
    "empty": lambda s: {s.key.entry: b""},
    "binary": lambda s: {s.key.entry: bytes(range(256))},
    "json": lambda s: {s.key.entry: b'{"signature": null}'},
    "no base64": lambda s: {s.key.entry: s.to_bytes().replace(b"\n", b"*\n")},
    "cut": lambda s: {s.key.entry: s.to_bytes()[:100] + b"\n-----END SSH SIGNATURE-----\n"},
    "nothing in it": lambda s: {s.key.entry: b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"},
    "ends in its beginning": lambda s: {s.key.entry: b"-----BEGIN SSH SIGNATURE-----"},
    "another namespace": lambda s: {s.key.entry: _other_namespace(s)},
    "under the name of another key": lambda s: {f"{SIGNATURES}{'0' * 64}.sig": s.to_bytes()},
    "another name": lambda s: {f"{SIGNATURES}anna.sig": s.to_bytes()},
    "a folder": lambda s: {f"{SIGNATURES}{'0' * 64}.sig/x": s.to_bytes()},
    "very many": lambda s: {f"{SIGNATURES}{k:064x}.sig": s.to_bytes() for k in range(MOST_SIGNATURES + 1)},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_signature_is_refused_in_one_line(command, model, keys, change) -> None:
    signer = read_signer(keys / "anna", {})
    digest = open_artifact(model).manifest.digest
    rewrite(model, {**entries(model), **change(signer.sign(digest))})
    for line in (
        ("inspect", "m.automl"),
        ("predict", "m.automl", "rows.csv", "--require-signature", keys / "anna.pub"),
        ("sign", "m.automl", "--key", keys / "anna"),
    ):
        assert "m.automl is damaged" in says(command, model.parent, *line)


def test_zeros_are_no_signature(model, keys) -> None:
    key = read_signer(keys / "anna", {}).key
    rewrite(model, {**entries(model), key.entry: Signature(key, bytes(64)).to_bytes()})
    refused(model, keys, "does not fit")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_do_not_make_another_model_of_a_signed_one(signed, keys, data) -> None:
    trusted = read_trusted(keys / "anna.pub")
    content = bytearray(signed.read_bytes())
    digest = open_artifact(signed).manifest.digest
    with zipfile.ZipFile(signed) as archive:
        places = [info.header_offset for info in archive.infolist() if not info.filename.startswith(BLOBS)]
        places = st.one_of(*(st.integers(place, place + 300) for place in (*places, archive.start_dir)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[min(data.draw(places), len(content) - 1)] ^= data.draw(st.integers(1, 255))
    flipped = signed.with_name("flipped.automl")
    flipped.write_bytes(content)
    try:
        found = open_artifact(flipped, trusted)
    except BadArtifact:
        return
    assert found.manifest.digest == digest
    assert found.verified == trusted.keys


# keys


@pytest.mark.parametrize("pem", [False, True])
def test_a_passphrase_comes_from_the_environment(command, model, tmp_path, monkeypatch, pem) -> None:
    key = write_key(tmp_path / "key", passphrase=b"open sesame", pem=pem)
    line = ("sign", "m.automl", "--key", key)
    assert PASSPHRASE in says(command, model.parent, *line, code=2)
    monkeypatch.setenv(PASSPHRASE, "open")
    assert "does not open" in says(command, model.parent, *line, code=2)
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    assert command(*line, cwd=model.parent).returncode == 0
    assert open_artifact(model, read_trusted(tmp_path / "key.pub")).verified


@pytest.mark.parametrize("pem", [False, True])
def test_a_passphrase_that_is_not_needed_does_no_harm(tmp_path, pem) -> None:
    key = write_key(tmp_path / "key", pem=pem)
    assert read_signer(key, {PASSPHRASE: "x"}).key in read_trusted(tmp_path / "key.pub").keys


def test_other_keys_are_refused_with_a_way_out(command, model, keys, tmp_path) -> None:
    def line(key: Path) -> str:
        return says(command, model.parent, "sign", "m.automl", "--key", key, code=2)

    before = model.read_bytes()
    numbers = rsa.generate_private_key(65537, 2048)
    for pem in (False, True):
        assert "RSA" in line(write_key(tmp_path / "rsa", private=numbers, pem=pem))
    assert "without .pub" in line(keys / "anna.pub")
    (tmp_path / "cut").write_bytes((keys / "anna").read_bytes()[:150] + b"\n-----END OPENSSH PRIVATE KEY-----\n")
    for name in ("cut", "rows.csv"):
        assert "ssh-keygen -t ed25519" in line(tmp_path / name)
    for name in ("none", "."):
        assert "cannot read the key file" in line(tmp_path / name)
    assert model.read_bytes() == before


def test_a_file_of_public_keys_may_list_many(keys, tmp_path) -> None:
    path = tmp_path / "keys"
    numbers = rsa.generate_private_key(65537, 2048).public_key()
    other = numbers.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    path.write_text(f"# who may\n\n{other} old\n  {(keys / 'anna.pub').read_text()}{ssh_line(keys / 'ben')}")
    both = {read_signer(keys / name, {}).key for name in ("anna", "ben")}
    assert read_trusted(path).keys == both
    extra = write_key(tmp_path / "third", pem=True)
    path.write_text((keys / "ben.pub").read_text() + (tmp_path / "third.pub").read_text())
    assert read_trusted(path).keys == {read_signer(keys / "ben", {}).key, read_signer(extra, {}).key}


BAD_LISTS = {
    "options": ("cert-authority {line}", "line 1 .* no public key"),
    "a name in front": ("anna {line}", "line 1 .* no public key"),
    "half a key": ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "line 1 .* no public key"),
    "no key at all": ("# none\n", "holds no public Ed25519 key"),
    "another type alone": ("ssh-rsa AAAA x\n", "holds no public Ed25519 key"),
    "words": ("{line}trust everybody\n", "line 2 .* no public key"),
    "a private key": ("{private}", "is a private key"),
    "half a PEM": ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot|can be read"),
}


@pytest.mark.parametrize(("text", "match"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_file_that_is_no_list_of_keys_trusts_nobody(keys, tmp_path, text, match) -> None:
    path = tmp_path / "keys"
    path.write_text(text.format(line=(keys / "anna.pub").read_text(), private=(keys / "anna").read_text()))
    with pytest.raises(UsageError, match=match):
        read_trusted(path)


def test_without_the_package_the_extra_is_named(model, keys) -> None:
    def run(*arguments):
        code = "import sys; sys.modules['cryptography'] = None; from automl_cli.cli import main; main()"
        words = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(words, check=False, capture_output=True, text=True, cwd=model.parent, timeout=60)

    sign_artifact(model, read_signer(keys / "anna", {}))
    for arguments in (
        ("sign", "m.automl", "--key", keys / "anna"),
        ("inspect", "m.automl", "--require-signature", keys / "anna.pub"),
    ):
        done = run(*arguments)
        assert (done.returncode, "automl-cli[signing]" in done.stderr) == (2, True), done.stderr
    done = run("inspect", "m.automl")
    assert (done.returncode, "not verified" in done.stdout) == (0, True), done.stderr


# fitting


def test_fit_signs_what_it_writes(command, fitted, keys, tmp_path) -> None:
    line = ("fit", fitted / "rows.csv", "-t", "y", *CHEAP, "-o", "m.automl", "--sign-key", keys / "ben")
    done = command(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert open_artifact(tmp_path / "m.automl", read_trusted(keys / "ben.pub")).verified
    assert "no private key" in says(command, tmp_path, *line[:-1], keys / "ben.pub", code=2)


def test_a_resumed_fit_signs_with_the_same_key(keys, monkeypatch) -> None:
    monkeypatch.chdir(keys)
    options = FitOptions("d.csv", "y", Path("m.automl"), sign_key=Path("anna"), require_signature=Path("anna.pub"))
    again = FitOptions.from_json(json.loads(json.dumps(options.to_json())))
    assert (again.sign_key, again.require_signature) == (keys / "anna", keys / "anna.pub")


def test_the_champion_is_verified_and_its_successor_is_signed(command, fitted, keys, tmp_path) -> None:
    write_rows(tmp_path / "first.csv", 200, slope=-1.0, seed=1)
    write_rows(tmp_path / "second.csv", 400, slope=1.0, seed=2)
    line = ("-t", "y", *CHEAP, "--champion", "m.automl", "--require-signature", keys / "anna.pub")
    by = ("--sign-key", keys / "anna")
    assert command("fit", "first.csv", *line, *by, cwd=tmp_path).returncode == 0
    old = (tmp_path / "m.automl").read_bytes()
    for rows, code in (("second.csv", 0), ("second.csv", 7)):
        done = command("fit", rows, *line, *by, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert open_artifact(tmp_path / "m.automl", read_trusted(keys / "anna.pub")).verified
    assert (tmp_path / "m.automl").read_bytes() != old
    assert (tmp_path / "m.automl.1").read_bytes() == old

    shutil.copy(fitted / "m.automl", tmp_path / "m.automl")  # somebody else's
    before = (tmp_path / "m.automl").read_bytes()
    assert "is not signed" in says(command, tmp_path, "fit", "first.csv", *line, *by)
    assert (tmp_path / "m.automl").read_bytes() == before


def test_the_settings_of_the_page_on_nightly_retraining(command, fitted, tmp_path, repository) -> None:
    page = (repository / "docs" / "nightly.md").read_text().split("## Signed models")[1]
    (tmp_path / "automl.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    write_key(tmp_path / "nightly")
    shutil.copy(fitted / "rows.csv", tmp_path)
    fit = ("fit", "rows.csv", "-t", "y", *CHEAP, "--champion", "m.automl")
    for code in (0, 7):  # no row is new the second time
        assert command(*fit, cwd=tmp_path).returncode == code
        assert command("predict", "m.automl", "rows.csv", cwd=tmp_path).returncode == 0
    shutil.copy(fitted / "m.automl", tmp_path)
    for line in (fit, ("predict", "m.automl", "rows.csv")):
        assert "is not signed" in says(command, tmp_path, *line)
    assert command("sign", "m.automl", "--key", "nightly", cwd=tmp_path).returncode == 0
    assert command("predict", "m.automl", "rows.csv", cwd=tmp_path).returncode == 0


def test_a_key_that_the_next_night_would_refuse_is_refused_tonight(command, fitted, keys, tmp_path) -> None:
    line = ("fit", fitted / "rows.csv", "-t", "y", *CHEAP, "--require-signature", keys / "anna.pub")
    wrong = ("--champion", "m.automl", "--sign-key", keys / "ben")
    assert "is not in" in says(command, tmp_path, *line, *wrong, code=2)
    assert "--champion" in says(command, tmp_path, *line, code=2)
    assert not (tmp_path / "m.automl").exists()
