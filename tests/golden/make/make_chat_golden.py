#!/usr/bin/env python3
"""Writes tests/golden/chat_templates.json: conversations as transformers renders published chat templates.

    python tests/golden/make/make_chat_golden.py TEMPLATES [--out tests/golden]

TEMPLATES is a folder with the templates of published models as files NAME@OWNER--MODEL.jinja, as they stand under
"chat_template" in a model's tokenizer_config.json; NAME is that of datasets/chat_template.cpp. The templates are not
stored: the file has their hashes, and the texts that they give. Needs transformers, jinja2 and xxhash.
"""

import argparse
import json
from pathlib import Path

import transformers
import xxhash
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

USER = {"role": "user", "content": "  What is 2 + 3?\n"}
SYSTEM = {"role": "system", "content": " Answer in one word.\n"}
ASSISTANT = {"role": "assistant", "content": "\tFive. "}
AGAIN = {"role": "user", "content": "Und auf Deutsch?\n\nÄußerst kurz."}
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, ASSISTANT, AGAIN], [SYSTEM, USER, ASSISTANT, AGAIN], [USER, USER], [ASSISTANT], [USER, ASSISTANT]]


def template_hash(text: str) -> str:
    """As chat_template_hash()."""
    return xxhash.xxh3_128_hexdigest(text.strip(" \t\n\r\f\v").replace("\\n", "\n").encode())


def rendered(template: str, messages: list[dict]) -> str | None:
    """None: the template refuses the conversation."""
    try:
        texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, bos_token="", eos_token="</s>")
    except TemplateError:
        return None
    return texts[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("templates", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1], help="default: tests/golden")
    arguments = parser.parse_args()
    templates = []
    for file in sorted(arguments.templates.glob("*.jinja")):
        name, model = file.stem.split("@")
        text = file.read_text()
        templates.append({"name": name, "model": model.replace("--", "/"), "hash": template_hash(text),
                          "texts": [rendered(text, messages) for messages in CONVERSATIONS]})
    out = {"transformers": transformers.__version__, "conversations": CONVERSATIONS, "templates": templates}
    (arguments.out / "chat_templates.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    for one in templates:
        print(f'    {{"{one["hash"]}", "{one["name"]}"}},  // {one["model"]}')


if __name__ == "__main__":
    main()
