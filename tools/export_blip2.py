"""Writes a BLIP-2 with OPT, as transformers keeps it in a folder, as the ONNX files that `fd.caption` reads.

    python3.11 -m venv build/captions
    build/captions/bin/pip install -r tools/requirements-captions.txt
    build/captions/bin/python tools/export_blip2.py CHECKPOINT FOLDER
    fastdup-dagster models add blip2 FOLDER --licence LICENCE

CHECKPOINT is a folder with config.json, preprocessor_config.json, tokenizer.json and the weights; nothing is
downloaded. Memory must hold the weights in float32 several times.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from caption_graphs import export_blip2
from transformers import Blip2ForConditionalGeneration

BESIDE = ("preprocessor_config.json", "tokenizer.json")


def main() -> None:
    """Checks what is there, exports the graphs, copies the rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    missing = [name for name in BESIDE if not (arguments.checkpoint / name).is_file()]
    if missing:
        parser.error(f"{arguments.checkpoint} has no {', '.join(missing)}")
    model = Blip2ForConditionalGeneration.from_pretrained(
        arguments.checkpoint, local_files_only=True, dtype=torch.float32
    ).eval()
    if model.config.text_config.model_type != "opt":
        parser.error(f"its text is by {model.config.text_config.model_type!r}: only OPT is supported")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        export_blip2(model, arguments.folder, beside=True)
    model.config.save_pretrained(arguments.folder)
    model.generation_config.save_pretrained(arguments.folder)
    for name in BESIDE:
        shutil.copy(arguments.checkpoint / name, arguments.folder)


if __name__ == "__main__":
    main()
