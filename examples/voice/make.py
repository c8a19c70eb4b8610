"""Silero's voice detector as it is, and a recording: two people's words with noise between them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from packages import members

MODEL = "silero_vad/data/silero_vad_16k_op15.onnx"
MODEL_SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
SOUNDS = Path("/usr/share/sounds/alsa")  # Debian's alsa-utils
PARTS = ("Front_Center", "Noise", "Rear_Left")
RATE = 16000
PAUSE = 0.5  # seconds between the parts


def make(folder: Path) -> None:
    (model,) = members("silero-vad==6.2.3", {MODEL: MODEL_SHA256}).values()
    (folder / "model.onnx").write_bytes(model)
    silence = np.zeros(int(PAUSE * RATE), np.float32)
    pieces = [silence]
    for part in PARTS:
        pieces += [third_of_rate(read(SOUNDS / f"{part}.wav")), silence]
    write(folder / "recording.wav", np.concatenate(pieces))


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (3 * RATE, 1, 2):
            raise RuntimeError(f"{path}: expected 16 bits, one channel, {3 * RATE} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)


def third_of_rate(samples: np.ndarray) -> np.ndarray:
    """Every third sample, after a low-pass filter below the new half rate."""
    taps = np.arange(-31, 32)
    low_pass = np.sinc(taps / 3 * 0.95) * np.hamming(len(taps))
    return np.convolve(samples, low_pass / low_pass.sum(), "same")[::3]


def write(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setframerate(RATE)
        file.setnchannels(1)
        file.setsampwidth(2)
        file.writeframes(np.clip(samples, -32768, 32767).astype("<i2").tobytes())
