"""The cache of decoded images: right pixels, decoded once, bounded, shared, and safe when a disk is full."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnrecal.data import image_cache
from bnrecal.data.image_cache import BadImageError, ImageCache
from bnrecal.data.image_source import Arrays, Files
from bnrecal.data.preprocessing import Preprocessing, user_transform
from bnrecal.errors import BnrecalError

SIZE = Preprocessing(3, 24, 32, fit="stretch")


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BNRECAL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path, n: int = 12, side: int = 40) -> Files:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(n)
    for k in range(n):
        Image.fromarray(rng.integers(0, 255, (side + k, side, 3), np.uint8)).save(folder / f"{k}.png")
    return Files(folder, [f"{k}.png" for k in range(n)], "a test")


def age(folder: Path) -> None:
    """Make files look old enough for their digests to be remembered."""
    then = time.time() - 60
    for path in folder.iterdir():
        os.utime(path, (then, then))


def test_pixels_are_what_decoding_gives(cache_dir: Path, tmp_path: Path) -> None:
    """Any positions in any order, twice: the pixels of the preprocessing, and the files' own sizes."""
    source = written(tmp_path / "images")
    positions = np.array([7, 0, 7, 11])
    want = np.stack([SIZE.decode(source.content(int(k)))[0] for k in positions])
    for _ in range(2):
        cache = ImageCache(source, SIZE)
        assert (cache.pixels(positions) == want).all()
        assert cache.sizes(positions).tolist() == [[40, 47], [40, 40], [40, 47], [40, 51]]


def test_an_image_is_decoded_once(cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prepare() counts what it decodes; afterwards nothing is decoded, in this process or the next."""
    source = written(tmp_path / "images")
    assert ImageCache(source, SIZE).prepare(np.arange(8)) == 8
    assert ImageCache(source, SIZE).prepare(np.arange(10)) == 2
    monkeypatch.setattr(Preprocessing, "decode", lambda *_: pytest.fail("decoded again"))
    assert ImageCache(source, SIZE).pixels(np.arange(10)).shape == (10, 3, 24, 32)
    assert ImageCache(source, SIZE).prepare(np.arange(10)) == 0


def test_another_preprocessing_is_another_set(cache_dir: Path, tmp_path: Path) -> None:
    """Size, channels, fit and interpolation each give pixels of their own."""
    source = written(tmp_path / "images")
    others = (
        SIZE,
        Preprocessing(1, 24, 32, fit="stretch"),
        Preprocessing(3, 24, 32, fit="crop"),
        Preprocessing(3, 24, 32, fit="stretch", interpolation="nearest"),
    )
    found = [ImageCache(source, p).pixels(np.arange(3)) for p in others]
    assert len({pixels.tobytes() for pixels in found}) == len(others)
    assert len(list(cache_dir.iterdir())) == len(others)


def test_a_changed_file_is_decoded_again(cache_dir: Path, tmp_path: Path) -> None:
    """Even with the size and the time of the old one, if it was young when it was hashed."""
    source = written(tmp_path / "images")
    before = ImageCache(source, SIZE).pixels(np.arange(2))
    stamp = (tmp_path / "images/1.png").stat()
    Image.fromarray(np.zeros((41, 40, 3), np.uint8)).save(tmp_path / "images/1.png")
    os.utime(tmp_path / "images/1.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = ImageCache(source, SIZE).pixels(np.arange(2))
    assert (after[0] == before[0]).all()
    assert (after[1] == 0).all()


def test_unchanged_files_are_not_hashed_again(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size and time of a file stand for its content once it has come to rest."""
    source = written(tmp_path / "images")
    age(tmp_path / "images")
    digests = ImageCache(source, SIZE).digests(np.arange(12))
    monkeypatch.setattr(Files, "content", lambda *_: pytest.fail("read again"))
    assert (ImageCache(source, SIZE).digests(np.arange(12)) == digests).all()


def test_the_digest_is_of_the_content(cache_dir: Path, tmp_path: Path) -> None:
    """The same files elsewhere have the same digests; every other content another."""
    here = ImageCache(written(tmp_path / "here"), SIZE).digests(np.arange(12))
    there = ImageCache(written(tmp_path / "there"), SIZE).digests(np.arange(12))
    assert (here == there).all()
    assert len(np.unique(here)) == 12


def test_without_room_images_are_streamed(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limit 0 keeps nothing on disk, and gives the same pixels."""
    source = written(tmp_path / "images")
    kept = ImageCache(source, SIZE).pixels(np.arange(12))
    monkeypatch.setenv("BNRECAL_CACHE_LIMIT", "0")
    monkeypatch.setenv("BNRECAL_CACHE_DIR", str(tmp_path / "other"))
    streamed = ImageCache(source, SIZE)
    assert (streamed.pixels(np.arange(12)) == kept).all()
    assert streamed.streams
    assert streamed.sizes(np.array([3, 1])).tolist() == [[40, 43], [40, 41]]
    assert not list((tmp_path / "other").glob("*/pixels"))


def test_the_sets_used_longest_ago_make_room(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new set pushes out the oldest, and none that a running process reads."""
    bytes_each = 12 * 3 * 24 * 32
    sources = [written(tmp_path / name, 12) for name in ("a", "b", "c")]
    folders = []
    for age_s, source in zip((300, 200), sources[:2], strict=True):
        cache = ImageCache(source, SIZE)
        cache.prepare(np.arange(12))
        folders.append(cache.folder)
        os.utime(cache.folder / "lock", (time.time() - age_s,) * 2)
        del cache  # which lets go of it
    monkeypatch.setenv("BNRECAL_CACHE_LIMIT", str(2.9 * bytes_each / 1e9))
    held = ImageCache(sources[0], SIZE)
    held.pixels(np.arange(12))  # the oldest is in use now
    third = ImageCache(sources[2], SIZE)
    third.prepare(np.arange(12))
    assert folders[0].exists()
    assert not folders[1].exists()
    assert (third.folder / "pixels").exists()


def test_a_full_disk_is_one_line(cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes really fail beyond a file-size limit; the message has the folder and three remedies."""
    written(tmp_path / "images")
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from bnrecal.data.image_cache import ImageCache\n"
        "from bnrecal.data.image_source import Files\n"
        "from bnrecal.data.preprocessing import Preprocessing\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        f"source = Files(Path({str(tmp_path / 'images')!r}), [f'{{k}}.png' for k in range(12)], 'a test')\n"
        "try:\n    ImageCache(source, Preprocessing(3, 24, 32)).pixels(np.arange(12))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("BnrecalError --cache-dir: "), ran
    assert "--cache-limit 0" in ran.stdout
    good = ImageCache(
        Files(tmp_path / "images", [f"{k}.png" for k in range(12)], "a test"), Preprocessing(3, 24, 32)
    )
    assert good.prepare(np.arange(12)) == 12  # nothing half-written was taken for whole


def test_a_crash_in_mid_decoding_leaves_no_wrong_pixels(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its record an image counts as missing, whatever stands in the pixel file."""
    monkeypatch.setattr(image_cache, "CHUNK", 4)
    source = written(tmp_path / "images")
    cache = ImageCache(source, SIZE)

    def crash(n: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.prepare(np.arange(12), crash)
    again = ImageCache(source, SIZE)
    assert again.prepare(np.arange(12)) == 8
    want = np.stack([SIZE.decode(source.content(k))[0] for k in range(12)])
    assert (again.pixels(np.arange(12)) == want).all()


def test_two_processes_fill_one_set(cache_dir: Path, tmp_path: Path) -> None:
    """Started together they give the same pixels, and the set is whole."""
    source = written(tmp_path / "images", 40, 64)
    code = (
        "import hashlib, numpy as np\nfrom pathlib import Path\n"
        "from bnrecal.data.image_cache import ImageCache\nfrom bnrecal.data.image_source import Files\n"
        "from bnrecal.data.preprocessing import Preprocessing\n"
        f"source = Files(Path({str(tmp_path / 'images')!r}), [f'{{k}}.png' for k in range(40)], 'a test')\n"
        "cache = ImageCache(source, Preprocessing(3, 24, 32, fit='stretch'))\n"
        "print(hashlib.sha256(cache.pixels(np.arange(40)).tobytes()).hexdigest())\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    digests = {process.communicate()[0] for process in running}
    assert len(digests) == 1
    assert ImageCache(source, SIZE).prepare(np.arange(40)) == 0


def test_bad_images_are_all_found(cache_dir: Path, tmp_path: Path) -> None:
    """Every bad one is told with its position; the good ones are kept."""
    source = written(tmp_path / "images")
    for k in (3, 8):
        path = tmp_path / "images" / f"{k}.png"
        path.write_bytes(path.read_bytes()[:-400])
    cache = ImageCache(source, SIZE)
    assert [error.position for error in cache.bad_images(np.arange(12))] == [3, 8]
    assert cache.pixels(np.array([0, 11])).shape[0] == 2
    with pytest.raises(BadImageError, match=r"8\.png: not a whole image: .*truncated"):
        cache.pixels(np.array([8]))


def test_arrays_are_images_too(cache_dir: Path) -> None:
    """Grey arrays become three equal channels if the network wants those."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 28, 28), np.uint8)
    found = ImageCache(Arrays(pixels, "an array"), Preprocessing(3, 28, 28)).pixels(np.arange(5))
    assert (found == pixels[:, None]).all()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", ""])
def test_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    """A list cannot name a file outside the image folder."""
    with pytest.raises(BnrecalError, match="leaves the image folder"):
        Files(tmp_path, [name], "a list")


@pytest.mark.parametrize("left", [None, 100])
def test_lost_pixels_are_decoded_again(cache_dir: Path, tmp_path: Path, left: int | None) -> None:
    """Somebody removed the largest file of the cache, or a copy of it was cut short."""
    source = written(tmp_path / "images")
    first = ImageCache(source, SIZE)
    pixels = first.pixels(np.arange(12))
    path = first.folder / "pixels"
    if left is None:
        path.unlink()
    else:
        os.truncate(path, left)
    assert (ImageCache(source, SIZE).pixels(np.arange(12)) == pixels).all()


def test_an_edited_transform_is_another_set(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache must not hand out what the transform of this name once made."""
    source = written(tmp_path / "images")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    code = "import numpy as np\ndef view(image): return np.full((3, 24, 32), {}, np.uint8)\n"
    for value in (1, 200):
        (tmp_path / "edited_transform.py").write_text(code.format(value))
        monkeypatch.delitem(sys.modules, "edited_transform", raising=False)
        user_transform.cache_clear()
        ours = Preprocessing(3, 24, 32, transforms="edited_transform:view")
        assert (ImageCache(source, ours).pixels(np.arange(2)) == value).all()


def test_random_views_do_not_depend_on_the_other_threads(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each view is drawn from its image alone, however many are decoded at a time."""
    monkeypatch.setenv("BNRECAL_CACHE_LIMIT", "0")
    monkeypatch.setattr(image_cache, "_n_threads", lambda: 4)
    ours = Preprocessing(
        3, 24, 32, transforms="tests.data.test_image_cache:slowly_drawn", random_transforms=True
    )
    cache = ImageCache(written(tmp_path / "images"), ours)
    together = cache.pixels(np.arange(12))
    alone = np.concatenate([cache.pixels(np.array([k])) for k in range(12)])
    assert (together == alone).all()


def slowly_drawn(image: Image.Image) -> np.ndarray:
    first = np.random.randint(0, 128, (3, 24, 32))
    time.sleep(0.002)
    return (first + np.random.randint(0, 128, (3, 24, 32))).astype(np.uint8)


def test_half_a_character_is_no_file_name(tmp_path: Path) -> None:
    with pytest.raises(BnrecalError, match="no name a file can have"):
        Files(tmp_path, ["\ud800.png"], "a test")
