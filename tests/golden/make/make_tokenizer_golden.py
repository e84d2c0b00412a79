#!/usr/bin/env python3
"""Write tests/golden/tokenizers/: small vocabularies in the files in which pretrained models bring
theirs, and the ids that their own libraries give odd texts.

    python3 tests/golden/make/make_tokenizer_golden.py DATA

DATA is a folder with wikitext-2/valid.txt, from which the vocabularies are learnt. Needs the Python
packages `tokenizers` 0.23, `sentencepiece` 0.2 and `gguf`. The same versions write the same
bytes. Each <name>.json of the results holds texts (in texts.json) by number and their ids.
"""

from __future__ import annotations

import json
import pathlib
import random
import sys

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "tokenizers"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")

ODD = [
    "", " ", "  ", "\n", "\n\n\n", "\t", "\r\n", "a", " a", "a ", "  a  b   c    ", "Hello world",
    "Hello, world! It's 1999's 42nd  test...\n", "I'm you're HE'D she'Ll we'VE", "x = 3.14159;\n\ty += x[2];",
    "1234567890", "12 345 6789 0", "a1b22c333d4444", "\u0663\u0664\u0665 \u00bd \u2167", "caf\u00e9 na\u00efve",
    "cafe\u0301 nai\u0308ve", "\u1112\u1161\u11ab\uae00 \ud55c\uae00", "\u212b \u2126 \u0958 \u0344",
    "a\u0315\u0300\u05ae\u0062", "q\u0307\u0323 q\u0323\u0307 \u1e9b\u0323", "\u0061\u035c\u0315\u0300\u05ae",
    "\u6211\u80fd\u541e\u4e0b\u73bb\u7483", "\u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c\uff01",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
    "\U0001f642 \U0001f44d\U0001f3fd \U0001f469\u200d\U0001f4bb", "\u2764\ufe0f\U0001f1e9\U0001f1ea", "\u2581under\u2581line \u2581",
    "zero\u200bwidth\ufeffx", "no\u00a0break \u3000wide\u2003em", "line\u2028sep\u2029par\x85next",
    "\x00\x01\x1c\x7f", "\U0010ffff \ue000 \ufffd", "<s>hi</s>", "<|user|> hi <|end|>  there", "a<|end|>b <|end|> c",
    "<pad><unk><0x41> <0x0A>", "one  <mask>  two", "<|end|", "<|end|><|end|>", "TAG[x] [x]TAG", "  <keep>  <keep>",
    "!!! ... --- '' \"\" `` ~~", "https://example.org/a?b=c&d=%20#e", "don\u2019t \u2018quote\u2019", "'s't'S'T ''s",
    "a\n\nb\n \n c \n", "tab\tx\t\ty \t z", "end with spaces   ", "\n leading newline", "x" * 300, " " * 200 + "y",
    "ab" * 150, "the the the " * 20, "!\n!\n\n! \n", "1,000,000.00", "\u00df\u1e9e\ufb01\u01c5", "i\u0307 \u0130 \u0131 \u017f's \u212a",
]  # fmt: skip


def texts(corpus: str) -> list[str]:
    chance = random.Random(7)
    out = list(ODD)
    letters = "etaoin shrdlu\n'\t 0123456789.,<>|\u2581\u00e9\u0301\u4e16\U0001f642"
    while len(out) < 150:
        out.append("".join(chance.choice(letters) for _ in range(chance.randrange(1, 40))))
    while len(out) < 200:
        at = chance.randrange(len(corpus))
        part = corpus[at : at + chance.randrange(20, 200)]
        out.append(part.replace("<unk>", "unknown"))  # a token to some, text to others
    return out


def dump(name: str, value) -> None:
    (GOLDEN / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def save(name: str, tokenizer: Tokenizer, all_texts: list[str]) -> None:
    """tokenizer.json in a folder of its own, as a Hugging Face directory has it, and the results."""
    folder = GOLDEN / name
    folder.mkdir(exist_ok=True)
    written = json.loads(tokenizer.to_str())
    (folder / "tokenizer.json").write_text(
        json.dumps(written, ensure_ascii=False, separators=(",", ":")) + "\n"
    )
    cases = []
    for text in all_texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        cases.append([ids, None if decoded == text else decoded])
    begins = tokenizer.encode("a", add_special_tokens=True).ids
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    dump(f"{name}.json", {"cases": cases, "begin": begins[0] if begins != plain else None})


def bpe_trainer(size: int, special: list, alphabet=()) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False
    )


def byte_level(corpus: list[str], all_texts: list[str]) -> None:
    """Byte-level, with the splits of SmolLM, Llama 3, Qwen and others."""
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splits = {
        "smollm": pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
        "llama3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), last]),
        "qwen2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), last]),
        "prefix": pre_tokenizers.ByteLevel(add_prefix_space=True),
        # Every other behavior of a split, one after another.
        "splits": pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"[\r\n]+"), "merged_with_previous"),
                pre_tokenizers.Split(" ", "merged_with_next"),
                pre_tokenizers.Split(Regex(r"\p{L}"), "contiguous"),
                pre_tokenizers.Split(Regex(r"\t"), "removed"),
                pre_tokenizers.Split(Regex(r"[^aeiou]+"), "isolated", invert=True),
                pre_tokenizers.Digits(individual_digits=False),
                last,
            ]
        ),
    }
    for name, split in splits.items():
        tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
        tokenizer.pre_tokenizer = split
        tokenizer.decoder = decoders.ByteLevel()
        if name == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(corpus, bpe_trainer(480, ["<pad>", "<s>", "</s>"], sorted(alphabet)))
        if name == "llama3":  # two tokens that no merge makes: only whole words give them
            written = json.loads(tokenizer.to_str())
            written["model"]["vocab"] |= {"\u0120zyzzyva": 480, "1999": 481}
            written["model"]["vocab"] |= {"Hello": 482} if "Hello" not in written["model"]["vocab"] else {}
            tokenizer = Tokenizer.from_str(json.dumps(written))
            template = {"single": "<s> $A", "pair": "<s> $A $B", "special_tokens": [("<s>", 1)]}
            tokenizer.post_processor = processors.Sequence(
                [processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(**template)]
            )
        tokenizer.add_special_tokens(
            [AddedToken("<|user|>"), AddedToken("<|end|>"), AddedToken("<mask>", lstrip=True, rstrip=True)]
        )
        tokenizer.add_tokens([AddedToken("TAG[x]", normalized=False), AddedToken("<keep>", rstrip=True)])
        save(name, tokenizer, all_texts)


def llama2(corpus: list[str], all_texts: list[str]) -> None:
    """SentencePiece's vocabularies as tokenizer.json has them: merges, and bytes to fall back on."""
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    for name in ("llama2", "metaspace", "unknown"):
        tokenizer = Tokenizer(
            models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=name != "unknown")
        )
        if name == "llama2":
            tokenizer.normalizer = normalizers.Sequence(
                [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
            )
        else:
            scheme = "first" if name == "metaspace" else "always"
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=name == "unknown")
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("\u2581", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        words = Tokenizer(models.BPE(unk_token="<unk>"))  # learn within words, apply to whole texts
        words.pre_tokenizer = pre_tokenizers.Metaspace()
        words.train_from_iterator(corpus, bpe_trainer(620, special))
        learnt = json.loads(words.to_str())["model"]
        # Not only special: as in the real files, found in text all the same.
        written = json.loads(tokenizer.to_str())
        written["model"]["vocab"], written["model"]["merges"] = learnt["vocab"], learnt["merges"]
        written["added_tokens"] = [
            {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, token in enumerate(special[:3])
        ]  # fmt: skip
        tokenizer = Tokenizer.from_str(json.dumps(written))
        if name == "llama2":
            template = {"single": "<s> $A", "pair": "<s> $A $B", "special_tokens": [("<s>", 1)]}
            tokenizer.post_processor = processors.TemplateProcessing(**template)
        save(name, tokenizer, all_texts)


def pieces(corpus: str, all_texts: list[str]) -> None:
    """SentencePiece's own file, with and without a space before texts, and the same inside GGUF."""
    for name, prefix in (("pieces", True), ("pieces_no_prefix", False)):
        model = GOLDEN / f"{name}.model"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus.splitlines()),
            model_writer=model.open("wb"),
            model_type="bpe",
            vocab_size=560,
            character_coverage=0.99,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=prefix,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            user_defined_symbols=["\n", "\n\n", "\u2581\u2581", "<keep>", "TAG[x]"],
            minloglevel=2,
            num_threads=1,
        )
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        # A control token in a text is text to SentencePiece and the token to us.
        plain = [i for i, t in enumerate(all_texts) if "<s>" not in t and "<unk>" not in t]
        cases = [
            [processor.encode(t), None] if i in plain else None for i, t in enumerate(all_texts)
        ]
        for i in plain:
            decoded = processor.decode(cases[i][0])
            cases[i][1] = None if decoded == all_texts[i] else decoded
        dump(f"{name}.json", {"cases": cases, "begin": 1})
        writer = gguf.GGUFWriter(GOLDEN / f"{name}.gguf", "golden")
        count = processor.get_piece_size()
        kinds = []
        for i in range(count):
            piece = processor.id_to_piece(i)
            kinds.append(
                2 if processor.is_unknown(i) else 3 if processor.is_control(i)
                else 6 if processor.is_byte(i)
                else 4 if piece in ("\n", "\n\n", "\u2581\u2581", "<keep>", "TAG[x]") else 1
            )  # fmt: skip
        writer.add_tokenizer_model("llama")
        # As llama.cpp's converter has them: the spaces of user-defined pieces are spaces.
        writer.add_token_list(
            [processor.id_to_piece(i).replace("\u2581", " ") if kinds[i] == 4 else processor.id_to_piece(i)
             for i in range(count)]
        )  # fmt: skip
        writer.add_token_scores([processor.get_score(i) for i in range(count)])
        writer.add_token_types(kinds)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(prefix)
        write(writer)


def write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_gguf() -> None:
    """The vocabularies of byte_level() as GGUF files have them."""
    for name, split in (("smollm", "smollm"), ("llama3", "llama-bpe"), ("qwen2", "qwen2")):
        written = json.loads((GOLDEN / name / "tokenizer.json").read_text())
        tokens = {i: t for t, i in written["model"]["vocab"].items()}
        kinds = dict.fromkeys(tokens, 1)
        for added in written["added_tokens"]:
            tokens[added["id"]] = added["content"]
            # GGUF has no room for tokens that take the spaces beside them.
            kinds[added["id"]] = 1 if added["lstrip"] or added["rstrip"] else 3 if added["special"] else 4
        writer = gguf.GGUFWriter(GOLDEN / f"{name}.gguf", "golden")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list([tokens[i] for i in range(len(tokens))])
        writer.add_token_types([kinds[i] for i in range(len(tokens))])
        writer.add_token_merges([" ".join(pair) for pair in written["model"]["merges"]])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        write(writer)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    corpus = (pathlib.Path(sys.argv[1]) / "wikitext-2" / "valid.txt").read_text()[:120_000]
    corpus += "\n\u4e16\u754c caf\u00e9 \U0001f642\n" * 20
    GOLDEN.mkdir(exist_ok=True)
    all_texts = texts(corpus)
    assert len(all_texts) == 200
    dump("texts.json", all_texts)
    lines = corpus.splitlines()
    byte_level(lines, all_texts)
    llama2(lines, all_texts)
    pieces(corpus, all_texts)
    byte_level_gguf()
    for path in sorted(GOLDEN.rglob("*")):
        if path.is_file():
            print(f"{path.relative_to(GOLDEN)}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
