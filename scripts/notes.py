"""Write notes that sampled instruments play, by pitch, for recipes of sounds (GANSynth).

python scripts/notes.py FOLDER [--split train] [--soundfont TimGM6mb.sf2] [--rate 8000] [--seconds 0.512]

It needs the synthesizer `tinysoundfont` (`pip install --no-deps tinysoundfont`) and a soundfont in the order of General
MIDI, such as that of Debian's package timgm6mb-soundfont. Each note is a file FOLDER/PITCH/INSTRUMENT-VELOCITY.wav, 16
bits, mono; PITCH is one of the twelve from C4 to B4. Every fifth instrument belongs to the split `test`: a soundfont
plays neighbouring notes from one recording, so that pitches cannot be split. `bigtrain data prepare FOLDER OUT` makes a
dataset of the files.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_C4 = 60
VELOCITIES = (50, 75, 100, 125)
_PEAK = 0.9
INSTRUMENTS = (*range(8), *range(16, 32), *range(40, 47), *range(48, 80))
"""General MIDI's programs that hold a pitch: no bells, drums, basses (an octave lower), effects."""


def instruments(split: str) -> list[int]:
    """Return the programs of a split: `train`, `test` or `all`."""
    return [one for place, one in enumerate(INSTRUMENTS) if split == "all" or (split == "test") == (place % 5 == 0)]


def main() -> None:
    """Write all notes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=["train", "test", "all"], default="all")
    parser.add_argument("--soundfont", type=Path, default=Path("/usr/share/sounds/sf2/TimGM6mb.sf2"))
    parser.add_argument("--rate", type=int, default=8000, help="Samples a second.")
    parser.add_argument("--seconds", type=float, default=0.512, help="Length of a note.")
    given = parser.parse_args()
    try:
        from tinysoundfont import Synth
    except ImportError:
        sys.exit("notes: the synthesizer is missing: pip install --no-deps tinysoundfont")
    if not given.soundfont.is_file():
        sys.exit(
            f"notes: {given.soundfont}: there is no such soundfont; install Debian's timgm6mb-soundfont, or name one"
        )
    synth = Synth(samplerate=given.rate)
    sounds, samples = synth.sfload(str(given.soundfont)), round(given.rate * given.seconds)
    for program in instruments(given.split):
        synth.program_select(0, sounds, 0, program)
        for semitone, pitch in enumerate(PITCHES):
            (given.folder / pitch).mkdir(parents=True, exist_ok=True)
            for velocity in VELOCITIES:
                synth.noteon(0, _C4 + semitone, velocity)
                stereo = np.frombuffer(synth.generate(samples), np.float32).reshape(-1, 2)
                synth.sounds_off()
                synth.generate(given.rate // 10)  # what still rings
                mono = stereo.mean(1)
                mono *= _PEAK * velocity / VELOCITIES[-1] / max(np.abs(mono).max(), 1e-6)
                name = f"{program:03d}-{velocity}.wav"
                soundfile.write(given.folder / pitch / name, mono, given.rate, subtype="PCM_16")


if __name__ == "__main__":
    main()
