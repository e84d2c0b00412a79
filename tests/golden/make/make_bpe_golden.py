#!/usr/bin/env python3
"""Write tests/golden/gpt2_bpe.json: odd texts and the tokens that tiktoken gives them.

    python3 tests/golden/make/make_bpe_golden.py DATA

DATA is a folder with gpt2-bpe/{encoder.json,vocab.bpe} and openwebtext/owt-1000docs.txt. Needs the
Python package `tiktoken` 0.14 (its regular expressions have Unicode 16.0, the version that
datasets/tokenizers/unicode_classes.cpp is pinned to). The same versions write the same bytes.

Each case holds `ids`, where <|endoftext|> in the text is the special token, and `ordinary_ids` where
reading it as text gives others. `files` holds the count and FNV-1a hash of all ids of whole files.
"""

import json
import pathlib
import random
import sys

import tiktoken

PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
END_OF_TEXT = "<|endoftext|>"
WHOLE_FILES = ("openwebtext/owt-1000docs.txt", "gutenberg/war-and-peace.txt", "wikitext-2/valid.txt")

ODD_TEXTS = {
    "empty": "",
    "one space": " ",
    "plain": "Hello world, this is GPT-2.",
    "leading and trailing spaces": "   three before, three after   ",
    "runs of spaces": "a  b   c    d     e",
    "spaces before a newline": "line   \n   next \n\n\n  last",
    "tabs": "\tdef f(x):\n\t\treturn  x\t\n",
    "CRLF": "one\r\ntwo\r\n\r\nthree\r",
    "form feed and vertical tab": "a\fb\vc \f \v d",
    "contractions": "I'm you're he'd she'll we've it's can't",
    "contractions in capitals": "I'M YOU'RE HE'D SHE'LL WE'VE IT'S CAN'T",
    "contractions half in capitals": "we'Ve it'S they'lL they'Ll 'sS ''s 's's's '",
    "quotes": "'tis 'twas 'em ''quoted'' 'll' ' s ' t",
    "curly apostrophes": "I\u2019m you\u2019re \u2018quoted\u2019",
    "digits": "1234567890 3.14159 1,000,000 2nd 0x1F a1b2 1a2b",
    "digits of other scripts": "\u0661\u0662\u0663 \u0967\u0968\u0969 \u0e51\u0e52 \uff11\uff12 \U0001d7d8\U0001d7d9",
    "numbers that are no digits": "\u00bd \u00b2 \u2460 \u2167 \u3007 \u4e00 \u0f33 \U00010107",
    "emoji": "\U0001f642 \U0001f44d\U0001f3fd \U0001f469\u200d\U0001f4bb \U0001f1e9\U0001f1ea \u2764\ufe0f #\ufe0f\u20e3",
    "combining marks": "e\u0301 n\u0303 a\u0308\u0304 \u0301 alone Z\u0351\u036b\u0343\u036aA\u0321\u034aL\u0348G\u032bO",
    "Chinese": "\u6211\u80fd\u541e\u4e0b\u73bb\u7483\u800c\u4e0d\u4f24\u8eab\u4f53\u3002\uff08\u6d4b\u8bd5\uff09",
    "Japanese": "\u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c\uff01 \u30ab\u30bf\u30ab\u30ca\u30fc\u3000\u5168\u89d2",
    "Hangul": "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4 \u1112\u1161\u11ab \u3131\u3134",
    "Arabic": "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f \u0664\u0662",
    "Hebrew": "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd \u05e2\u05d5\u05dc\u05dd",
    "Devanagari": "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e \u0915\u094d\u0937",
    "Thai": "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "Cyrillic and Greek": "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5",
    "ligatures and title case": "\ufb01 \u01c5 \u02b0 \u00aa \u00ba \u2102 \u212b \u1e9e\u00df",
    "no-break space": "a\u00a0b \u00a0 c\u00a0\u00a0d \u00a0",
    "zero width": "a\u200bb \u200c\u200d \ufeff\ufeff x\u2060y \u00ad",
    "information separators": "a\x1cb\x1dc\x1ed\x1fe \x1c \x1f\x1e ",
    "controls": "\x00\x01 a\x00b \x7f \x08\x1b[0m",
    "next line": "a\x85b \x85 \x85\x85c",
    "Mongolian vowel separator": "a\u180eb \u180e \u180e\u180e c",
    "line and paragraph separators": "a\u2028b\u2029c \u2028 \u2029\u2029d",
    "spaces of all widths": "a\u1680b\u2000c\u2003 \u2009d\u202fe\u205f\u3000f \u3000",
    "unassigned": "a\u0378b \u0378\u0379 \U000e0080 \U0003ffff x \U0001fc00y",
    "noncharacters": "\ufffe \uffff a\ufdd0b \U0010ffff",
    "private use": "\ue000 a\uf8ffb \U000f0000 \U00100000x",
    "letters of Unicode 15": "\U00011f04 a\U00011f04b \U0001df25\U0001e4d0 \U00031350",
    "letters and digits of Unicode 15.1 and 16": "\U0002ebf0 a\U00010d4ab \U00010d40\U00010d41 \ua7da \U00013460",
    "letters of Unicode 17": "a\U000323b0b \U000323b0 \U00011db0 \U00011de0 1\U00011de01",
    "mathematics": "\u2200x\u2208\u211d: \u221ax\u00b2 = |x| \U0001d538\U0001d41a\U0001d7d9",
    "code": "for (int i=0;i<n;++i){ x[i] += y[i]*2; } // done!!!\n#include <vector>\n",
    "markup": "<p class=\"a\">&nbsp;x</p>\n\n```py\nprint('hi')\n```",
    "address": "https://example.org/a_b-c?d=e&f=%20#g foo.bar@example.org",
    "end of text": f"one{END_OF_TEXT}two {END_OF_TEXT} three{END_OF_TEXT}{END_OF_TEXT}\n",
    "nearly the end of text": "<|endoftext| > <|endoftext <|ENDOFTEXT|> <||endoftext|>",
    "spaces around the end of text": f"a  {END_OF_TEXT}  b \n{END_OF_TEXT}\n c   {END_OF_TEXT}",
    "a long word": "pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "127 to 130 letters": " ".join("a" * n for n in (126, 127, 128, 129, 130)),
    "a very long word": "".join(chr(97 + (i * i + i // 7) % 26) for i in range(3000)),
    "a very long run of one letter": "a" * 2000 + "b" * 1001 + "=" * 777,
    "very long spaces": "x" + " " * 500 + "y" + "\n" * 301 + "\t" * 200,
    "a very long CJK word": "".join(chr(0x4E00 + i * 37 % 20000) for i in range(600)),
    "German": "Donaudampfschifffahrtsgesellschaftskapit\u00e4n \u00fcberpr\u00fcft \u00c4rger",
    "a cut character's bytes": "\ufffd\ufffd \ufffd",
}


def random_texts(seed: int, count: int) -> list[str]:
    """Strings of all kinds of characters; special tokens and contractions in some."""
    rng = random.Random(seed)
    pools = [
        lambda: rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        lambda: rng.choice(" eta oin shr"),
        lambda: rng.choice("0123456789"),
        lambda: rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        lambda: rng.choice(" \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2009\u2028\u2029\u200b\u3000"),
        lambda: rng.choice(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", " '", "  "]),
        lambda: chr(rng.randrange(0x80, 0x250)),
        lambda: chr(rng.randrange(0x300, 0x370)),
        lambda: chr(rng.randrange(0x370, 0x1000)),
        lambda: chr(rng.randrange(0x1000, 0xD800)),
        lambda: chr(rng.randrange(0xE000, 0x10000)),
        lambda: chr(rng.randrange(0x10000, 0x20000)),
        lambda: chr(rng.randrange(0x20000, 0x110000)),
        lambda: chr(rng.randrange(0x1F300, 0x1FB00)),
        lambda: END_OF_TEXT if rng.random() < 0.2 else "<|",
    ]
    texts = []
    for _ in range(count):
        mix = rng.sample(pools, rng.randint(1, 5))
        texts.append("".join(rng.choice(mix)() for _ in range(rng.randint(1, 40))))
    return texts


def byte_of_character() -> dict[str, int]:
    """GPT-2's files write each byte as a printable character; this is the way back."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    table = {chr(b): b for b in printable}
    table.update({chr(0x100 + i): b for i, b in enumerate(others)})
    return table


def load_gpt2(folder: pathlib.Path) -> tiktoken.Encoding:
    encoder = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    special = {END_OF_TEXT: encoder.pop(END_OF_TEXT)}
    table = byte_of_character()
    tokens = {bytes(table[c] for c in token): number for token, number in encoder.items()}
    # tiktoken takes a token's rank for its number: that holds only if vocab.bpe's order is the numbers'.
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    merged = [bytes(table[c] for c in line.replace(" ", "")) for line in lines]
    if [tokens[m] for m in merged] != list(range(256, 256 + len(merged))):
        raise SystemExit("vocab.bpe's order is not that of encoder.json's numbers")
    # Single bytes rank before every merge, whatever their order among themselves.
    return tiktoken.Encoding(
        name="gpt2", pat_str=PATTERN, mergeable_ranks=tokens, special_tokens=special
    )


def fnv1a(ids: list[int]) -> str:
    """FNV-1a over the ids as 32-bit units, 64 bits wide."""
    value = 0xCBF29CE484222325
    for number in ids:
        value = ((value ^ number) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    data = pathlib.Path(sys.argv[1])
    gpt2 = load_gpt2(data / "gpt2-bpe")

    def case(name: str, text: str) -> dict:
        ids = gpt2.encode(text, allowed_special="all")
        ordinary = gpt2.encode_ordinary(text)
        assert gpt2.decode_bytes(ids) == text.encode() == gpt2.decode_bytes(ordinary)
        entry = {"name": name, "text": text, "ids": ids}
        if ordinary != ids:
            entry["ordinary_ids"] = ordinary
        return entry

    cases = [case(name, text) for name, text in ODD_TEXTS.items()]
    cases += [case(f"random {i}", text) for i, text in enumerate(random_texts(20240229, 300))]
    files = {}
    for name in WHOLE_FILES:
        ids = gpt2.encode((data / name).read_bytes().decode(), allowed_special="all")
        files[name] = {"tokens": len(ids), "fnv1a": fnv1a(ids)}
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in cases)
    head = json.dumps({"tiktoken": tiktoken.__version__, "unicode": "16.0", "files": files}, indent=1)
    text = head[:-2] + ',\n "cases": [\n' + lines + "\n]}\n"
    assert json.loads(text)["cases"] == cases
    target = pathlib.Path(__file__).resolve().parents[1] / "gpt2_bpe.json"
    target.write_text(text)
    print(f"{len(cases)} cases, {len(files)} files, {len(text)} bytes -> {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
