"""Texts into tokens from the command line: files, JSON lines, compressed ones; vocabularies; figures of whole texts.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import gzip
import json
import math
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"
PIECES = ROOT / "tests/golden/tokenizers/pieces.model"

STORY = "the one of the two and the other of them\n"


class PrepareTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-prepare-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        (cls.folder / "text.txt").write_text(STORY * 200)

    def expect(self, status, *arguments):
        got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def description(self, directory):
        return json.loads((self.folder / directory / "dataset.json").read_text())

    def bits_per_byte(self, model, text):
        self.expect(0, "eval", model, "--text", text, "--json", "figure.json")
        return json.loads((self.folder / "figure.json").read_text())["bits_per_byte"]

    def test_ends_with_the_line_for_a_config(self):
        got = self.expect(0, "prepare", "text.txt", "--tokenizer", "word", "--out", "words")
        self.assertEqual(got.stdout.strip(), "words")
        last = got.stderr.strip().splitlines()[-1]
        self.assertEqual(json.loads("{" + last + "}"), {"data": {"path": str(self.folder / "words")}})
        config = {
            **json.loads("{" + last + "}"),
            "model": {"type": "gpt2", "block_size": 8, "n_layer": 1, "n_head": 1, "n_embd": 8},
            "train": {"steps": 1, "batch_size": 2},
            "evaluation": {"final_windows": 1, "final_prefix_only_windows": 1},
            "sample": {"tokens": 0},
        }
        (self.folder / "c.json").write_text(json.dumps(config))
        self.expect(0, "train", "c.json", "--run-dir", "run")

    def test_makes_a_task_from_a_seed(self):
        options = ["--set", "window=28", "--set", "windows=3", "--set", "distances=[1,2]", "--set", "pairs=8", "--set", "questions=4", "--set", "documents=30"]
        got = self.expect(0, "prepare", "--generated", "recall", *options, "--set", "seed=7", "--out", "recall")
        self.assertEqual(got.stdout.strip(), "recall")
        self.assertIn("answers decided 2 windows before", got.stderr)
        self.assertIn("chance 0.0625", got.stderr)
        made = self.description("recall")
        self.assertEqual(made["creation"]["generated"]["seed"], 7)
        self.assertEqual(made["train"]["tokens"], 30 * 3 * 28 + 1)
        text = (self.folder / "recall" / "documents.txt").read_text()
        self.assertRegex(text, r"k\d+ v\d+\[[12]\]")
        # Each window is followed by its token ids.
        lines = text.splitlines()
        words = lines.index("document 0, window 1") + 1
        self.assertEqual(len(lines[words].split()), 28)
        self.assertTrue(all(token.isdigit() for token in lines[words + 1].split()))
        inspected = self.expect(0, "inspect", "recall").stdout
        self.assertIn("recall: documents of 3 windows of 28 tokens", inspected)
        self.assertIn('"seed": 7', inspected)
        self.assertIn("answers decided 1 windows before: chance 0.0625", inspected)
        self.assertIn('generated task "recall"', self.expect(0, "modules").stdout)
        # Kept, unless another is asked for.
        self.expect(0, "prepare", "--generated", "recall", *options, "--set", "seed=7", "--out", "recall")
        starved = self.expect(0, "prepare", "--generated", "recall", "--set", "windows=3", "--set", "distances=[1,2]", "--set", "documents=5", "--out", "starved")
        self.assertIn("decided 2 windows before, though $.data.generated.distances has 2", starved.stderr)
        self.assertNotIn("though", got.stderr)
        other = self.expect(1, "prepare", "--generated", "recall", *options, "--set", "seed=8", "--out", "recall")
        self.assertIn("generated.seed: 7 -> 8", other.stderr)
        for status, wrong, said in [
            (2, ["--set", "distances=[4]"], "distance 4 needs a document of 5 windows or more"),
            (2, ["--set", "pears=4"], "pears"),
            (2, ["--tokenizer", "gpt2"], "excludes"),
            (2, ["--validation-fraction", "0.2"], "excludes"),
        ]:
            refused = self.expect(status, "prepare", "--generated", "recall", *wrong, "--out", "wrong")
            self.assertIn(said, refused.stderr)
        self.assertIn("recall", self.expect(2, "prepare", "--generated", "recal", "--out", "wrong").stderr)
        self.assertFalse((self.folder / "wrong").exists())
        # A run's answers, by their distance.
        config = {
            "data": {"path": str(self.folder / "recall")},
            "model": {
                "type": "llama",
                "block_size": 28,
                "n_layer": 1,
                "n_head": 1,
                "n_embd": 8,
                "memory": {"type": "delta_rule", "carry_state": True},
            },
            "train": {"steps": 2, "batch_size": 2, "windows": 3},
            "evaluation": {"final_windows": 6, "final_prefix_only_windows": 3},
            "sample": {"tokens": 0},
        }
        (self.folder / "task.json").write_text(json.dumps(config))
        self.expect(0, "train", "task.json", "--run-dir", "task")
        figures = self.expect(0, "eval", "task", "--windows", "6", "--prefix-only-windows", "3", "--json", "task_figures.json").stdout
        self.assertIn("answers 1 window  before", figures)
        self.assertIn("memory reset at each window", figures)
        answers = json.loads((self.folder / "task_figures.json").read_text())["answers"]
        self.assertEqual([a["distance"] for a in answers], [1, 2])
        for a in answers:
            self.assertEqual(a["chance"], 0.0625)
            self.assertGreater(a["of"], 100)
            self.assertTrue(0 <= a["right"] <= a["of"] and 0 <= a["right_reset"] <= a["of"])
        config["model"]["vocab_size"] = 9
        (self.folder / "task.json").write_text(json.dumps(config))
        self.assertIn("vocabulary_size 9", self.expect(1, "train", "task.json", "--run-dir", "small").stderr)

    def test_learns_byte_pairs(self):
        self.expect(0, "prepare", "text.txt", "--train-bpe", "270", "--out", "bpe")
        tokenizer = self.description("bpe")["tokenizer"]
        self.assertEqual((tokenizer["name"], tokenizer["vocabulary_size"]), ("bpe", 270))
        self.expect(2, "prepare", "text.txt", "--train-bpe", "270", "--tokenizer", "char", "--out", "both")
        self.expect(2, "prepare", "text.txt", "--tokenizer", "bpe", "--out", "no_size")
        self.expect(2, "prepare", "text.txt", "--train-bpe", "100", "--out", "too_few")

    def test_options_that_change_nothing_are_refused(self):
        self.expect(0, "prepare", "text.txt", "--out", "plain")
        for arguments, option, wanted in (
            (["text.txt", "--field", "story"], "--field", ".jsonl"),
            (["text.txt", "--tokenizer", "char", "--tokenizer-files", "/nope"], "--tokenizer-files", "--tokenizer pretrained"),
            (["text.txt", "--train-bpe", "270", "--tokenizer-files", "/nope"], "--tokenizer-files", "--tokenizer pretrained"),
            (["text.txt", "--document-token", "\\n"], "--document-token", "--document-separator"),
            (["text.txt", "--replace"], "--replace", "--out"),
            (["text.txt", "--plugin", "task.so"], "--plugin", "--generated"),
            (["plain", "--tokenizer", "word"], "--tokenizer", "token files already"),
            (["plain", "--out", "elsewhere"], "--out", "token files already"),
        ):
            said = self.expect(2, "prepare", *arguments).stderr
            self.assertIn(option, said)
            self.assertIn(wanted, said)
        self.assertFalse((self.folder / "elsewhere").exists())
        self.assertEqual(self.expect(0, "prepare", "plain").stdout.strip(), "plain")

    # The cut between the parts falls inside "problem": the word stays whole.
    def test_words_are_not_cut(self):
        text = "a first line of words, and then what is a problem\n"
        (self.folder / "words.txt").write_text(text)
        self.expect(0, "prepare", "words.txt", "--tokenizer", "word", "--out", "whole_words")
        made = self.description("whole_words")
        self.assertEqual((made["train"]["tokens"], made["validation"]["tokens"]), (12, 1))
        self.expect(0, "prepare", "words.txt", "--tokenizer", "char", "--out", "letters")
        self.assertEqual(self.description("letters")["train"]["tokens"], int(len(text) * 0.9))

    def test_lines_and_folders_are_documents(self):
        lines = "\r\n".join(json.dumps({"id": n, "text": STORY}) for n in range(20)) + "\r\n\r\n"
        (self.folder / "s.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        self.expect(0, "prepare", "s.jsonl.gz", "--field", "text", "--train-bpe", "260", "--out", "stories")
        self.assertEqual(self.description("stories")["documents"]["count"], 20)
        got = self.expect(1, "prepare", "s.jsonl.gz", "--train-bpe", "260", "--out", "no_field")
        self.assertIn('"text"', got.stderr)
        (self.folder / "books").mkdir()
        for name in ("b", "a", "c"):
            (self.folder / f"books/{name}.txt").write_text(f"{name} {STORY}")
        for path in ("books", "books/*.txt"):
            out = "books_" + str(len(path))
            self.expect(0, "prepare", path, "--tokenizer", "char", "--document-token", "\\n", "--out", out)
            self.assertEqual(self.description(out)["documents"]["count"], 3)
        got = self.expect(1, "prepare", "books", "--tokenizer", "char", "--out", "unmarked")
        self.assertIn("document_token", got.stderr)

    def test_other_data_are_replaced_only_when_told(self):
        (self.folder / "other.txt").write_text("all the world's a stage\n" * 20)
        self.expect(0, "prepare", "text.txt", "--out", "kept")
        before = self.description("kept")
        got = self.expect(1, "prepare", "other.txt", "--out", "kept")
        self.assertIn("--replace", got.stderr)
        self.assertEqual(self.description("kept"), before)
        self.expect(0, "prepare", "other.txt", "--out", "kept", "--replace")
        self.assertEqual(self.description("kept")["source"]["name"], "other")

    def test_files_of_one_name_do_not_share_tokens(self):
        directories = []
        for folder, text in (("x", "to be or not to be\n"), ("y", "all the world's a stage\n")):
            (self.folder / folder).mkdir()
            (self.folder / folder / "story.txt").write_text(text * 9)
            directories.append(self.expect(0, "prepare", f"{folder}/story.txt").stdout.strip())
        self.assertNotEqual(*directories)
        self.assertEqual(self.expect(0, "prepare", "x/story.txt").stdout.strip(), directories[0])

    # A vocabulary that puts a space before a text: bytes and words are the text's, whatever the window.
    def test_figures_are_of_the_text(self):
        text = "the one of two\nand other ones"
        (self.folder / "seven.txt").write_text(text)
        config = {
            "data": {"path": str(self.folder / "text.txt"), "tokenizer": "pretrained", "tokenizer_files": str(PIECES)},
            "model": {"type": "llama", "block_size": 16, "n_layer": 1, "n_head": 1, "n_embd": 8},
            "train": {"steps": 1, "batch_size": 2},
            "evaluation": {"final_windows": 1, "final_prefix_only_windows": 1},
        }
        (self.folder / "p.json").write_text(json.dumps(config))
        self.expect(0, "train", "p.json", "--run-dir", "pieces")
        for window in ([], ["--window", "3"], ["--window", "5", "--stride", "2"]):
            self.expect(0, "eval", "pieces", "--text", "seven.txt", *window, "--json", "j.json")
            got = json.loads((self.folder / "j.json").read_text())
            nats = got["predictions"] * got["nll"]
            self.assertAlmostEqual(got["bits_per_byte"], nats / math.log(2) / len(text), places=9)
            self.assertAlmostEqual(math.log(got["word_perplexity"]), nats / 7, places=9)
        odd = os.fsdecode(b"odd\xff.txt")  # a name that is not UTF-8
        (self.folder / odd).write_text(text)
        self.expect(0, "eval", "pieces", "--text", odd, "--json", "odd.json")
        self.assertEqual(json.loads((self.folder / "odd.json").read_text())["bits_per_byte"],
                         self.bits_per_byte("pieces", "seven.txt"))


if __name__ == "__main__":
    unittest.main()
