"""`reverie sample` of many prompts, conversations, stop strings and log-probabilities, as a user meets it.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

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
TEXT = "".join(f"Question: what is {n % 7} and {n % 5}? Answer: {n % 7 + n % 5}.\n" for n in range(400))
GPT = {"type": "llama", "block_size": 48, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32}
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def reverie(folder, *arguments, status=0):
    got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
    if got.returncode != status:
        raise AssertionError(f"{arguments}: {got.returncode}\n{got.stdout}\n{got.stderr}")
    return got


def train(folder, name, data, model=GPT):
    experiment = {
        "seed": 7,
        "data": {"path": str(folder / "text.txt"), "prepared_directory": str(folder / f"{name}_tokens"), **data},
        "model": model,
        "train": {"steps": 30, "batch_size": 4},
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2},
        "evaluation": {"interval": 0, "final_windows": 2, "final_prefix_only_windows": 1},
        "sample": {"interval": 0, "tokens": 0},
    }
    (folder / f"{name}.json").write_text(json.dumps(experiment))
    reverie(folder, "train", f"{name}.json", "--run-dir", name, "--quiet")


def byte_tokenizer():
    """A byte-level tokenizer.json with the marks of ChatML and no merges."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    letters = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    vocabulary = {letters[b]: b for b in range(256)}
    added = [{"id": 256 + i, "content": text, "special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
             for i, text in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": level,
            "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}}


def setUpModule():
    global FOLDER, KEEP
    KEEP = tempfile.TemporaryDirectory(prefix="reverie-generation-")
    FOLDER = Path(KEEP.name)
    (FOLDER / "text.txt").write_text(TEXT)
    train(FOLDER, "writer", {})


def tearDownModule():
    KEEP.cleanup()


class GenerationTest(unittest.TestCase):
    def sample(self, *arguments, status=0, run="writer"):
        """-> (what it printed, the JSON file)"""
        out = FOLDER / "out.json"
        out.unlink(missing_ok=True)
        got = reverie(FOLDER, "sample", run, *arguments, *(["--json", out] if status == 0 else []), status=status)
        return (got.stdout, json.loads(out.read_text())) if status == 0 else got.stderr

    def prompts(self, name, text):
        (FOLDER / name).write_text(text)
        return FOLDER / name

    def test_prompts_of_a_file_are_continued_as_each_alone(self):
        prompts = ["Question: what", "Answer: 3", "Q", "Question: what is 4 and 2? Answer: 6.  Question: what is"]
        file = self.prompts("prompts.txt", "\n".join(prompts[:2]) + "\r\n\n   \n" + "\n".join(prompts[2:]))
        # 70 tokens outgrow the block of 48.
        for more in (["--greedy"], ["--top-p", 0.9, "--min-p", 0.02, "--repetition-penalty", 1.2, "--seed", 5]):
            shown, written = self.sample("--prompts", file, "--max-tokens", 70, *more, "--texts", "texts.jsonl")
            self.assertEqual([t["prompt"] for t in written["texts"]], prompts)
            for prompt, one in zip(prompts, written["texts"]):
                _, alone = self.sample("--prompt", prompt, "--max-tokens", 70, *more)
                self.assertEqual((one["tokens"], one["text"]), (alone["tokens"], alone["text"]))
                self.assertEqual(one["finish"], "length")
            self.assertEqual(shown, "".join(f"---- {i + 1} of 4\n{t['text']}\n" for i, t in enumerate(written["texts"])))
            lines = [json.loads(line) for line in (FOLDER / "texts.jsonl").read_text().splitlines()]
            self.assertEqual(lines, [{"prompt": t["prompt"], "text": t["text"]} for t in written["texts"]])
        # Two at a time, and several texts behind each.
        self.assertEqual(self.sample("--prompts", file, "--max-tokens", 70, *more, "--together", 2)[1]["texts"], written["texts"])
        several = self.sample("--prompts", file, "--max-tokens", 9, "--samples", 3, "--seed", 5)[1]["texts"]
        self.assertEqual(len(several), 12)
        self.assertEqual(several[4]["text"], self.sample("--prompt", prompts[1], "--max-tokens", 9, "--seed", 6)[1]["text"])

    def test_lines_of_json_and_what_is_wrong_with_them(self):
        file = self.prompts("prompts.jsonl", '{"prompt": "Question:", "id": 7}\n"Answer:"\n')
        self.assertEqual([t["prompt"] for t in self.sample("--prompts", file, "--max-tokens", 3)[1]["texts"]], ["Question:", "Answer:"])
        for line, words in (('{"text": "a"}', "no \"prompt\""), ("{", "no JSON"), ("[]", "it is array"), ('{"prompt": 3}', "is no text"),
                            ('{"messages": []}', "an empty one"), ('{"messages": [{"role": "user"}]}', 'no text "content"')):
            said = self.sample("--prompts", self.prompts("bad.jsonl", f'"Answer:"\n{line}\n'), status=3)
            self.assertIn("bad.jsonl, line 2", said)
            self.assertIn(words, said)
        self.assertIn("name its template (--chat", self.sample("--prompts", self.prompts("c.jsonl", '{"messages": [{"role": "user", "content": "a"}]}'), status=1))
        self.assertIn("holds no prompt", self.sample("--prompts", self.prompts("empty.txt", "\n \n"), status=1))
        self.assertIn("unknown.txt, line 2", self.sample("--prompts", self.prompts("unknown.txt", "Answer:\n漢\n"), status=1) or "")

    def test_stop_strings_end_a_text(self):
        whole = self.sample("--prompt", "Question:", "--max-tokens", 60, "--greedy")[1]["text"]
        stop = whole[20:23]
        shown, written = self.sample("--prompt", "Question:", "--max-tokens", 60, "--greedy", "--stop", "no such text", "--stop", stop)
        self.assertEqual(written["text"], whole[:whole.index(stop)])
        self.assertEqual((shown, written["finish"]), (written["text"] + "\n", "stop"))
        self.assertIn("is empty", self.sample("--stop", "", status=1))

    def test_log_probabilities_are_the_model_s_own(self):
        file = self.prompts("scored.txt", "Question: what is\nAnswer\n")
        _, written = self.sample("--prompts", file, "--max-tokens", 12, "--logprobs", 3, "--greedy")
        for text in written["texts"]:
            self.assertEqual(len(text["log_probabilities"]), 12)
            for token, value, likeliest in zip(text["tokens"], text["log_probabilities"], text["likeliest"]):
                self.assertEqual((likeliest[0]["token"], likeliest[0]["log_probability"]), (token, value))
                self.assertEqual(len(likeliest), 3)
                self.assertLess(sum(math.exp(one["log_probability"]) for one in likeliest), 1 + 1e-9)
        # Temperature and the others change what is drawn, not what the model thinks of it.
        _, one = self.sample("--prompt", "Answer", "--max-tokens", 12, "--logprobs", 0, "--temperature", 0.01, "--top-k", 1)
        self.assertEqual(one["tokens"], written["texts"][1]["tokens"])
        for got, wanted in zip(one["log_probabilities"], written["texts"][1]["log_probabilities"]):
            self.assertAlmostEqual(got, wanted, places=5)
        self.assertIn("--json", reverie(FOLDER, "sample", "writer", "--logprobs", 1, status=1).stderr)

    def test_a_text_is_shown_as_it_comes(self):
        for more in ([], ["--stop", "no such text"], ["--prompts", self.prompts("one.txt", "Question:\nAnswer:\n")]):
            process = subprocess.Popen([str(REVERIE), "sample", "writer", "--max-tokens", "1000000", *map(str, more)], cwd=FOLDER, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL)
            try:
                self.assertEqual(len(process.stdout.read(40)), 40)
                self.assertIsNone(process.poll(), "it is still writing")
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    def test_what_cannot_be_had_is_refused(self):
        for arguments, words in ((["--top-p", 0], "top_p is 0"), (["--min-p", 2], "min_p is 2"), (["--repetition-penalty", 0], "repetition_penalty is 0"),
                                 (["--chat", "chatml", "--prompt", "a"], 'has no token "<|im_start|>"'), (["--chat", "alpaca"], 'no chat template "alpaca"'),
                                 (["--chat", "auto"], "comes without a chat template"), (["--system", "a"], "name its template"),
                                 (["--logprobs", 1, "--explain", "writer", "--json", "x"], "--explain goes with one plain --prompt")):
            self.assertIn(words, self.sample(*arguments, status=1))


class ChatTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        (FOLDER / "bytes").mkdir()
        (FOLDER / "bytes/tokenizer.json").write_text(json.dumps(byte_tokenizer()))
        (FOLDER / "bytes/tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
        train(FOLDER, "chatter", {"tokenizer": "pretrained", "tokenizer_files": str(FOLDER / "bytes")})
        reverie(FOLDER, "inspect", "chatter", "--export-hf", "chatter_hf")

    def with_template(self, template):
        file = FOLDER / "chatter_hf/tokenizer_config.json"
        config = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**config, "chat_template": template}))

    def sample(self, *arguments, status=0):
        got = reverie(FOLDER, "sample", "chatter_hf", *arguments, "--max-tokens", 6, "--greedy", "--json", "chat.json", status=status)
        return json.loads((FOLDER / "chat.json").read_text()) if status == 0 else got.stderr

    def test_the_model_s_own_template_is_known_by_its_text(self):
        self.with_template(CHATML)
        own = self.sample("--chat", "auto", "--prompt", "What is 2?", "--system", "Be brief.")
        text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 2?<|im_end|>\n<|im_start|>assistant\n"
        self.assertEqual((own["chat_template"], own["prompt"]), ("chatml", text))
        self.assertEqual(own["prompt_tokens"][0], 257)
        self.assertEqual(own["prompt_tokens"].count(258), 2)
        self.assertEqual(self.sample("--prompt", text)["tokens"], own["tokens"])
        file = FOLDER / "chats.jsonl"
        file.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}) +
                        "\n" + json.dumps({"prompt": "What is 2?"}) + "\n")
        texts = self.sample("--chat", "auto", "--prompts", file, "--system", "Be brief.")["texts"]
        self.assertEqual(texts[1]["tokens"], own["tokens"])
        self.assertIn("<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>", texts[0]["prompt"])

    def test_an_unknown_template_is_named_and_refused(self):
        self.with_template("{{ 'Human: ' + messages[0].content }}")
        said = self.sample("--chat", "auto", "--prompt", "a", status=1)
        for words in ("chatter_hf", "none of those known here", "Human: ", "--chat NAME"):
            self.assertIn(words, said)
        self.assertEqual(self.sample("--chat", "smollm2", "--prompt", "a")["prompt"].count("named SmolLM"), 1)


if __name__ == "__main__":
    unittest.main()
