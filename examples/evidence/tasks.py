"""Classification tasks: what is shown to a network over time, and what it shall answer.

Each has three parts, of which the validation part decides every choice and the test part is only
reported. MNIST and the spoken digits are read from the folder that `--data` names; the small
digits come with scikit-learn.
"""

from __future__ import annotations

import gzip
import tarfile
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class Part:
    """Examples: inputs of shape (examples, time steps, channels), and a class for each."""

    inputs: Tensor
    labels: Tensor

    def shown(self, change: Callable[[Tensor], Tensor]) -> Part:
        """The same examples, shown in another way."""
        return Part(change(self.inputs).contiguous(), self.labels)


Data = dict[str, Part]


@dataclass(frozen=True)
class Task:
    """How to load a task, and what is the same for every network that learns it."""

    load: Callable[[Path | None], Data]
    epochs: int
    gain: float  # of the first weights, so that hidden neurons spike from the start
    needs_data: bool = False


def shown(data: Data, change: Callable[[Tensor], Tensor]) -> Data:
    """The same examples in every part, shown in another way."""
    return {name: part.shown(change) for name, part in data.items()}


def columns(images: Tensor) -> Tensor:
    """Images that were read row by row are read column by column."""
    return images.transpose(1, 2)


# ------------------------------------------------------------------------------------ digits


@cache
def digits() -> Data:
    """scikit-learn's 1797 handwritten digits of 8 x 8 pixels: 60, 20 and 20 % of them."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 8, 8) / 16
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    first, second = int(0.6 * len(order)), int(0.8 * len(order))
    parts = order[:first], order[first:second], order[second:]
    return {
        name: Part(images[index], torch.tensor(labels)[index])
        for name, index in zip(PARTS, parts, strict=True)
    }


def held(images: Tensor) -> Tensor:
    """Each row is shown for two time steps."""
    return images.repeat_interleave(2, dim=1)


def delayed(images: Tensor) -> Tensor:
    """Eight time steps without input follow before the answer is read."""
    return torch.cat([images, torch.zeros_like(images)], dim=1)


def latency(images: Tensor) -> Tensor:
    """Each pixel spikes once in 16 steps, the brighter the earlier; a dark one does not."""
    bright = images.flatten(1)
    step = ((1 - bright) * 15).round().long()
    spikes = torch.nn.functional.one_hot(step, 16).float() * (bright > 0).unsqueeze(-1)
    return spikes.transpose(1, 2)


# ------------------------------------------------------------------------------------- MNIST


def mnist(folder: Path | None, training: int | None = None) -> Data:
    """MNIST row by row; the last 5,000 of the 60,000 training images are the validation part."""
    return _mnist(required(folder), training)


@cache
def _mnist(folder: Path, training: int | None) -> Data:
    raw = folder / "MNIST" / "raw"
    images, labels = idx(raw / "train-images-idx3-ubyte"), idx(raw / "train-labels-idx1-ubyte")
    training = len(labels) - 5000 if training is None else training
    pairs = {
        "training": (images[:training], labels[:training]),
        "validation": (images[-5000:], labels[-5000:]),
        "test": (idx(raw / "t10k-images-idx3-ubyte"), idx(raw / "t10k-labels-idx1-ubyte")),
    }
    return {name: Part(x.float() / 255, y.long()) for name, (x, y) in pairs.items()}


def idx(path: Path) -> Tensor:
    """An array in the format of the MNIST files, unpacked or not."""
    packed = path.with_name(path.name + ".gz")
    if not path.exists() and not packed.exists():
        raise SystemExit(f"no {path} (or .gz): --data must name the folder that holds MNIST/raw")
    with path.open("rb") if path.exists() else gzip.open(packed) as file:
        content = file.read()
    sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return torch.tensor(np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes))).view(
        *sizes.tolist()
    )


# ----------------------------------------------------------------------------- spoken digits

RATE, WINDOW, HOP = 8000, 256, 80  # samples per second; samples of one spectrum; between two


def spoken(folder: Path | None) -> Data:
    """Free Spoken Digit Dataset: 20 mel bands in 50 frames of 10 ms; takes divide the parts.

    Takes 0 to 9 of each speaker and digit are the test part, 10 to 17 the validation part.
    """
    return _spoken(required(folder), bands=20, frames=50)


@cache
def _spoken(folder: Path, bands: int, frames: int) -> Data:
    length = (frames - 1) * HOP + WINDOW
    filters, window = mel_filters(bands), torch.hann_window(WINDOW)
    inputs, labels, takes = [], [], []
    for name, sound in recordings(folder):
        digit, _, take = name.removesuffix(".wav").split("_")
        sound = torch.nn.functional.pad(sound[:length], (0, max(0, length - len(sound))))
        power = torch.fft.rfft(sound.unfold(0, WINDOW, HOP) * window).abs() ** 2
        # from silence, 0, to about 1
        inputs.append((torch.log(power @ filters.T + 1e-4) - np.log(1e-4)) / 10)
        labels.append(int(digit))
        takes.append(int(take))
    x, y, take_numbers = torch.stack(inputs).float(), torch.tensor(labels), torch.tensor(takes)
    test, validation = take_numbers < 10, (take_numbers >= 10) & (take_numbers < 18)
    masks = ~test & ~validation, validation, test
    return {name: Part(x[m], y[m]) for name, m in zip(PARTS, masks, strict=True)}


def recordings(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and sound of each recording, in `recordings/` or in a .tar.gz of it."""
    files, archives = sorted(folder.glob("recordings/*.wav")), sorted(folder.glob("fsdd*.tar.gz"))
    if files:
        for path in files:
            with path.open("rb") as file:
                yield path.name, sound(file)
    elif archives:
        with tarfile.open(archives[0]) as archive:
            for member in archive.getmembers():
                file = archive.extractfile(member) if member.name.endswith(".wav") else None
                if file is not None:
                    yield Path(member.name).name, sound(file)
    else:
        raise SystemExit(
            f"no spoken digits below {folder}: --data must name the folder that holds "
            "recordings/ of the Free Spoken Digit Dataset, or fsdd*.tar.gz"
        )


def sound(file: IO[bytes]) -> Tensor:
    """The samples of a wav file of 16 bits, between -1 and 1."""
    with wave.open(file) as recording:
        content = recording.readframes(recording.getnframes())
    return torch.tensor(np.frombuffer(content, "<i2").astype(np.float32) / 32768)


def mel_filters(bands: int, lowest: float = 80.0, highest: float = 3900.0) -> Tensor:
    """Triangular filters, (bands, frequencies), at equal distances on the mel scale.

    A frequency f in Hz is 2595 log10(1 + f / 700) mel (O'Shaughnessy, Speech Communication, 1987).
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (lowest, highest))
    edges = torch.tensor(700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1))
    frequency = torch.fft.rfftfreq(WINDOW, 1 / RATE, dtype=torch.float64)
    left, centre, right = (e.unsqueeze(1) for e in (edges[:-2], edges[1:-1], edges[2:]))
    rising, falling = (frequency - left) / (centre - left), (right - frequency) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


def direction(folder: Path | None) -> Data:
    """Which digit is spoken, and whether it is played forward or reversed: 20 classes."""
    return {
        name: Part(
            torch.cat([part.inputs, part.inputs.flip(1)]),
            torch.cat([part.labels, part.labels + 10]),
        )
        for name, part in spoken(folder).items()
    }


def required(folder: Path | None) -> Path:
    if folder is None:
        raise SystemExit("this needs --data FOLDER, with MNIST/raw and the spoken digits: --help")
    return folder


TASKS = {
    "digits rows": Task(lambda _: shown(digits(), held), 30, 4.0),
    "digits columns": Task(lambda _: shown(shown(digits(), columns), held), 30, 4.0),
    "digits delayed": Task(lambda _: shown(digits(), delayed), 30, 4.0),
    "digits latency": Task(lambda _: shown(digits(), latency), 30, 8.0),
    "MNIST rows": Task(lambda folder: mnist(folder, 5000), 5, 2.0, True),
    "MNIST columns": Task(lambda folder: shown(mnist(folder, 5000), columns), 5, 2.0, True),
    "spoken digits": Task(spoken, 8, 4.0, True),
    "spoken digits reversed": Task(
        lambda folder: shown(spoken(folder), lambda x: x.flip(1)), 8, 4.0, True
    ),
    "spoken direction": Task(direction, 8, 4.0, True),
    "MNIST rows, all images": Task(mnist, 5, 2.0, True),
}
