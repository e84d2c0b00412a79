"""`reverie serve`: what OpenAI's clients and lm-eval ask of it, what it refuses, and how it ends.

Needs a finished build (REVERIE_BUILD_DIR, or build/release). Run by itself with --fuzz SECONDS it goes on sending
broken and parallel requests for so long.
"""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"
BASE = {"type": "llama", "block_size": 96, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32}
TEXT = "".join(f"Question: what is {n % 7} and {n % 5}? Answer: {n % 7 + n % 5}.\n" for n in range(400))


def reverie(folder, *arguments, status=0):
    got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
    if got.returncode != status:
        raise AssertionError(f"{arguments}: {got.returncode}\n{got.stdout}\n{got.stderr}")
    return got


def train(folder, name, model, **changes):
    experiment = {
        "seed": 7,
        "data": {"path": str(folder / "text.txt"), "prepared_directory": str(folder / "tokens")},
        "model": model,
        "train": {"steps": 20, "batch_size": 4},
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2},
        "evaluation": {"interval": 0, "final_windows": 2, "final_prefix_only_windows": 1},
        "sample": {"interval": 0, "tokens": 0},
        **changes,
    }
    (folder / f"{name}.json").write_text(json.dumps(experiment))
    reverie(folder, "train", f"{name}.json", "--run-dir", name, "--quiet")


class Server:
    """A server on a port of its own choice."""

    def __init__(self, folder, *arguments):
        self.process = subprocess.Popen(
            [str(REVERIE), "serve", *map(str, arguments), "--port", "0"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.start = ""
        while "listening on" not in self.start:
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"no server: {self.start}\n{self.process.stderr.read()}")
            self.start += line
        self.port = int(re.search(r"listening on http://[^ ]*:(\d+)", self.start)[1])

    def ask(self, method, path, body=None, timeout=60):
        """-> (status, JSON or text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if body is not None and not isinstance(body, (str, bytes)):
                body = json.dumps(body)
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        return answer.status, json.loads(text) if answer.headers["Content-Type"] == "application/json" else text

    def post(self, path, **body):
        status, answer = self.ask("POST", path, body)
        if status != 200:
            raise AssertionError(f"{path} {body}: {status} {answer}")
        return answer

    def complete(self, **body):
        return self.post("/v1/completions", **body)

    def send(self, data, *, half_close=False, timeout=120):
        """Raw bytes -> the answer's bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                answer = b""
                while more := connection.recv(65536):
                    answer += more
            except ConnectionError:
                return b""
        return answer

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            out, errors = self.process.communicate(timeout=120)
        finally:
            self.process.kill()
        return self.process.returncode, out, errors


def setUpModule():
    global FOLDER, KEEP
    KEEP = tempfile.TemporaryDirectory(prefix="reverie-serve-")
    FOLDER = Path(KEEP.name)
    (FOLDER / "text.txt").write_text(TEXT)
    train(FOLDER, "writer", BASE)
    reverie(FOLDER, "inspect", "writer", "--export-hf", "writer_hf")
    train(FOLDER, "beside", {"type": "augmented", "base": str(FOLDER / "writer_hf"),
                             "latents": {"type": "coprocessor", "count": 3}, "block_size": 64, "groups": 4, "ahead": 4})  # fmt: skip


def tearDownModule():
    KEEP.cleanup()


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(FOLDER, "writer_hf", "--coprocessor", "beside", "--max-body", 100_000)
        cls.names = ["writer_hf", "writer_hf+beside"]

    @classmethod
    def tearDownClass(cls):
        status, _, errors = cls.server.end()
        assert status == 128 + signal.SIGTERM, (status, errors)

    def refused(self, body, reason, status=400, path="/v1/completions"):
        got, answer = self.server.ask("POST", path, body)
        self.assertEqual(got, status, answer)
        self.assertIn(reason, answer["error"]["message"])
        self.assertEqual(answer["error"]["code"], status)

    def test_says_what_it_serves_and_to_whom(self):
        self.assertIn("this machine alone", self.server.start)
        self.assertIn("causal: probed", self.server.start)
        status, models = self.server.ask("GET", "/v1/models")
        self.assertEqual(status, 200)
        self.assertEqual([m["id"] for m in models["data"]], self.names)
        self.assertEqual([m["reverie"]["latents"] for m in models["data"]], [0, 3])
        self.assertEqual([m["max_model_len"] for m in models["data"]], [96, 93])
        self.assertTrue(all(m["reverie"]["label"] == "" for m in models["data"]))
        self.assertIn("causal: ", models["data"][1]["reverie"]["verdict"])
        self.assertEqual(self.server.ask("GET", "/v1/models/writer_hf+beside")[1], models["data"][1])
        self.assertEqual(self.server.ask("GET", "/v1/models/other")[0], 404)
        self.assertEqual(self.server.ask("GET", "/health"), (200, {"status": "ok"}))
        status, answer = self.server.ask("GET", "/nowhere")
        self.assertEqual((status, answer["error"]["message"]), (404, "there is no GET /nowhere"))
        self.refused({}, "there is no POST /nowhere", 404, "/nowhere")

    def test_tokens(self):
        tokens = self.server.post("/tokenize", prompt="Question: 7", add_special_tokens=False, return_token_strs=True)
        self.assertEqual(tokens["count"], 11)
        self.assertEqual(tokens["token_strs"], list("Question: 7"))
        self.assertEqual(self.server.post("/detokenize", tokens=tokens["tokens"]), {"prompt": "Question: 7"})
        info = self.server.ask("GET", "/tokenizer_info")[1]
        self.assertIsNone(info["eos_token"])
        self.refused({"prompt": 3}, "prompt", path="/tokenize")
        self.refused({"tokens": [10_000]}, "tokens", path="/detokenize")

    def test_writes_as_sample_does(self):
        prompt = "Question: what is 3 and"
        options = ["--prompt", prompt, "--max-tokens", 24, "--greedy", "--past-end", "--json", "s.json"]
        reverie(FOLDER, "sample", "writer_hf", "--coprocessor", "beside", *options)
        sampled = json.loads((FOLDER / "s.json").read_text())
        for name, key in zip(self.names, ("base", "with_latents")):
            answer = self.server.complete(model=name, prompt=prompt, max_tokens=24, temperature=0)
            self.assertEqual(answer["choices"][0]["text"], sampled[key]["text"])
            self.assertEqual(answer["choices"][0]["finish_reason"], "length")
            self.assertIsNone(answer["choices"][0]["logprobs"])
            self.assertEqual(answer["model"], name)
            self.assertEqual(answer["usage"], {"prompt_tokens": 23, "completion_tokens": 24, "total_tokens": 47})
        self.assertEqual(answer["reverie"]["latents"], 3)
        self.assertEqual(answer["reverie"]["latents_after"], [23])
        # Drawn text: seed + i, as with --samples.
        reverie(FOLDER, "sample", "writer_hf", "--prompt", prompt, "--max-tokens", 24, "--samples", 3, "--seed", 5,
                "--temperature", 0.9, "--top-k", 8, "--json", "s.json")  # fmt: skip
        sampled = json.loads((FOLDER / "s.json").read_text())
        answer = self.server.complete(prompt=prompt, max_tokens=24, n=3, seed=5, temperature=0.9, top_k=8)
        self.assertEqual([c["text"] for c in answer["choices"]], [s["text"] for s in sampled["samples"]])

    def test_latents_made_anew_are_those_of_sample(self):
        prompt = "Question: what is 3 and"
        options = ["--prompt", prompt, "--max-tokens", 24, "--greedy", "--past-end", "--json", "anew.json"]
        reverie(FOLDER, "sample", "writer_hf", "--coprocessor", "beside", "--latents-every", 5, *options)
        sampled = json.loads((FOLDER / "anew.json").read_text())
        server = Server(FOLDER, "writer_hf", "--coprocessor", "beside", "--latents-every", 5)
        try:
            self.assertIn("3 latents, made anew after every 5 tokens of an answer", server.start)
            entries = server.ask("GET", "/v1/models")[1]["data"]
            self.assertEqual([m["reverie"].get("latents_every") for m in entries], [None, 5])
            for name, key, every in ((self.names[0], "base", None), (self.names[1], "with_latents", 5)):
                answer = server.complete(model=name, prompt=prompt, max_tokens=24, temperature=0)
                self.assertEqual(answer["choices"][0]["text"], sampled[key]["text"])
                self.assertEqual(answer["reverie"].get("latents_every"), every)
        finally:
            server.end()
        for wrong, words in ((["--latents-every", 3], "--coprocessor"),
                             (["--coprocessor", "beside", "--latents-every", 3, "--latents-late", 3], "would be replaced before they arrive")):  # fmt: skip
            self.assertIn(words, reverie(FOLDER, "serve", "writer_hf", *wrong, status=1).stderr)

    def test_scores_are_the_models_own(self):
        """exp of minus the mean log-probability is the perplexity that `reverie eval` prints."""
        text = TEXT[40:130]
        (FOLDER / "scored.txt").write_text(text)
        reverie(FOLDER, "eval", "writer_hf", "--text", "scored.txt", "--json", "e.json")
        nll = json.loads((FOLDER / "e.json").read_text())["nll"]
        tokens = self.server.post("/tokenize", prompt=text)["tokens"]
        for prompt in (text, tokens, [tokens[:5], tokens, tokens[3:60]]):
            answer = self.server.complete(prompt=prompt, max_tokens=1, echo=True, logprobs=1, temperature=0)
            choice = answer["choices"][1 if isinstance(prompt[0], list) else 0]
            scores = choice["logprobs"]["token_logprobs"]
            self.assertEqual(len(scores), len(tokens) + 1)
            self.assertIsNone(scores[0])
            self.assertAlmostEqual(-sum(scores[1:-1]) / (len(tokens) - 1), nll, delta=1e-5)
            self.assertEqual(choice["text"][: len(text)], text)
            self.assertEqual(choice["logprobs"]["tokens"][:-1], list(text))
            self.assertEqual(choice["logprobs"]["text_offset"], list(range(len(text) + 1)))
            for score, top in zip(scores[1:], choice["logprobs"]["top_logprobs"][1:]):
                self.assertLessEqual(len(top), 2)
                self.assertLessEqual(score, max(top.values()))
        # Written tokens have the scores that they have when they are read, with latents and without.
        for name in self.names:
            written = self.server.complete(model=name, prompt=text[:50], max_tokens=20, logprobs=2, temperature=0)
            choice = written["choices"][0]
            behind = {"latents_after": 50} if "+" in name else {}
            read = self.server.complete(model=name, prompt=text[:50] + choice["text"], max_tokens=0, echo=True,
                                        logprobs=0, **behind)["choices"][0]  # fmt: skip
            self.assertEqual(read["finish_reason"], "length")
            for a, b in zip(choice["logprobs"]["token_logprobs"], read["logprobs"]["token_logprobs"][50:], strict=True):
                self.assertAlmostEqual(a, b, delta=1e-4)
            for score, top in zip(choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]):
                self.assertEqual(score, max(top.values()))  # greedy

    def test_latents_go_where_the_request_says(self):
        body = {"model": self.names[1], "prompt": TEXT[:60], "echo": True, "logprobs": 1, "max_tokens": 0}
        self.refused(body, "latents_after")
        self.refused({**body, "latents_after": 61}, "latents_after is 61, wanted an integer from 1 to 60")
        self.refused({**body, "latents_after": 60}, "latents_after is 60, and prompt[0] has as many tokens")
        self.refused({**body, "model": self.names[0], "latents_after": 9}, "has no latents")
        base = self.server.complete(**{**body, "model": self.names[0]})["choices"][0]["logprobs"]["token_logprobs"]
        for place in (20, 40):
            scores = self.server.complete(**body, latents_after=place)["choices"][0]["logprobs"]["token_logprobs"]
            same = [a is None or abs(a - b) < 1e-4 for a, b in zip(base, scores)]
            self.assertTrue(all(same[:place]))
            self.assertFalse(all(same[place:]))
        behind = Server(FOLDER, "writer_hf", "--coprocessor", "beside", "--latents-behind", "Answer:")
        try:
            place = TEXT[:60].rindex("Answer:") + len("Answer:")
            answer = behind.complete(**body)
            self.assertEqual(answer["reverie"]["latents_after"], [place])
            wanted = self.server.complete(**body, latents_after=place)
            self.assertEqual(answer["choices"], wanted["choices"])
            status, answer = behind.ask("POST", "/v1/completions", {**body, "prompt": "Question: no"})
            self.assertEqual(status, 400)
            self.assertIn('does not hold "Answer:"', answer["error"]["message"])
        finally:
            behind.end()

    def test_stops_and_streams(self):
        whole = self.server.complete(prompt="Question: ", max_tokens=40, temperature=0)["choices"][0]["text"]
        stop = whole[9:12]
        wanted = whole[: whole.index(stop)]
        answer = self.server.complete(prompt="Question: ", max_tokens=40, temperature=0, stop=["#", stop])
        self.assertEqual((answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]), (wanted, "stop"))
        body = {"prompt": ["Question: ", "Answer"], "max_tokens": 40, "temperature": 0, "stop": stop, "stream": True,
                "echo": True, "logprobs": 1}  # fmt: skip
        status, events = self.server.ask("POST", "/v1/completions", body)
        self.assertEqual(status, 200)
        lines = events.strip().split("\n\n")
        self.assertEqual(lines[-1], "data: [DONE]")
        pieces = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        self.assertTrue(all(p["reverie"]["label"] == "" for p in pieces))
        text = "".join(p["choices"][0]["text"] for p in pieces if p["choices"][0]["index"] == 0)
        self.assertEqual(text, "Question: " + wanted)
        finishes = [p["choices"][0]["finish_reason"] for p in pieces if p["choices"][0]["index"] == 0]
        self.assertEqual(finishes, [None] * (len(finishes) - 1) + ["stop"])
        tokens = [t for p in pieces if p["choices"][0]["index"] == 0 for t in p["choices"][0]["logprobs"]["tokens"]]
        self.assertEqual("".join(tokens)[: len(text)], text)

    def test_a_bad_request_gets_the_reason(self):
        self.refused("{", "the request")
        self.refused('{"prompt": "\\ud800"}', "the request")
        self.refused(b'{"prompt": "\xff"}', "the request")
        self.refused("[" * 100_000, "deep")
        self.refused({"prompt": "Question: ", "max_tokens": 90}, "the model's context is 96")
        self.refused({"prompt": [1] * 200}, "200 tokens")
        self.refused({"prompt": "~"}, "'~'")
        self.refused({"prompt": "A", "model": "gpt-4"}, "served: writer_hf, writer_hf+beside", 404)
        self.refused({"prompt": "Q" * 200_000}, "--max-body", 413)
        self.refused({"prompt": "Q" * 200_000}, "--max-body", 413, "/nowhere")
        chunked = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        many = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000) * 5 + b"0\r\n\r\n"
        self.assertIn(b" 413 ", self.server.send(chunked + many)[:20])
        self.assertIn(b" 415 ", self.server.send(
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 6\r\n\r\n--b--\r")[:20])  # fmt: skip

    def test_broken_connections_leave_it_standing(self):
        fuzz(self.server, seconds=3, clients=24)
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        answer = self.server.complete(prompt="Question: ", max_tokens=4, temperature=0)
        self.assertEqual(answer["usage"]["completion_tokens"], 4)

    def test_a_port_has_one_server(self):
        got = reverie(FOLDER, "serve", "writer_hf", "--port", self.server.port, status=1)
        self.assertIn(f"cannot listen on 127.0.0.1 port {self.server.port}", got.stderr)

    def test_a_half_closed_connection_gets_its_answer(self):
        body = json.dumps({"prompt": "Question: ", "max_tokens": 4}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        answer = self.server.send(head + body, half_close=True)
        self.assertIn(b" 200 ", answer[:20])
        self.assertIn(b'"text_completion"', answer)


class Ending(unittest.TestCase):
    def test_sigterm_finishes_what_runs(self):
        # One text at a time: when the first event is there, most prompts of the request still wait for their turn.
        server = Server(FOLDER, "writer_hf", "--texts", 1)
        body = json.dumps({"prompt": ["Q"] * 30, "temperature": 0, "max_tokens": 95, "stream": True})
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        connection.request("POST", "/v1/completions", body)
        answer = connection.getresponse()
        first = answer.readline()
        self.assertTrue(first.startswith(b"data: {"), first)
        later = []

        def ask_later():
            try:
                later.append(server.ask("POST", "/v1/completions", {"prompt": ["Q"] * 9, "max_tokens": 60}, timeout=120)[0])
            except ConnectionError:
                later.append(None)

        server.process.send_signal(signal.SIGTERM)
        other = threading.Thread(target=ask_later)
        other.start()
        events = (first + answer.read()).decode()
        connection.close()
        other.join()
        server.process.wait(timeout=120)  # one signal alone: end() would send another
        status, _, errors = server.end()
        self.assertEqual(status, 128 + signal.SIGTERM, errors)
        self.assertTrue(events.endswith("data: [DONE]\n\n"))
        self.assertNotIn('"error"', events)
        self.assertEqual(events.count('"finish_reason":"length"'), 30)
        self.assertIn(later[0], (None, 200, 503))  # begun before the signal was seen, told, or too late

    def test_what_cannot_be_served(self):
        got = reverie(FOLDER, "serve", "nothing", status=1)
        self.assertIn("nothing", got.stderr)
        reverie(FOLDER, "serve", "writer_hf", "--port", "70000", status=2)
        got = reverie(FOLDER, "serve", "writer_hf", "--coprocessor", "writer", status=1)
        self.assertIn("holds no coprocessor", got.stderr)
        got = reverie(FOLDER, "serve", "writer_hf", "--latents-behind", "A", status=1)
        self.assertIn("--coprocessor", got.stderr)

    def test_a_model_that_leaks_says_so_everywhere(self):
        imm = {"type": "gpt2", "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16,
               "memory": {"type": "imm", "mode": "as_published", "low_rank_dim": 3, "num_slots": 3}}  # fmt: skip
        train(FOLDER, "leaks", imm, allow_future_leak=True)
        server = Server(FOLDER, "leaks")
        try:
            self.assertIn("model leaks  LEAKS", server.start)
            model = server.ask("GET", "/v1/models")[1]["data"][0]
            self.assertEqual(model["reverie"]["label"], "LEAKS")
            self.assertIn("LEAKS: ", model["reverie"]["verdict"])
            answer = server.complete(prompt="Question: ", max_tokens=3, echo=True, logprobs=1)
            self.assertEqual(answer["reverie"]["label"], "LEAKS")
            _, events = server.ask("POST", "/v1/completions", {"prompt": "Q", "max_tokens": 2, "stream": True})
            self.assertEqual(events.count('"label":"LEAKS"'), events.count("data: {"))
        finally:
            server.end()

    def test_a_full_queue_and_a_late_answer(self):
        server = Server(FOLDER, "writer_hf", "--queue", 1, "--texts", 1, "--time-limit", 0.4)
        try:
            codes = []
            body = {"prompt": ["Q"] * 40, "max_tokens": 95, "n": 8, "temperature": 0}
            clients = [threading.Thread(target=lambda: codes.append(server.ask("POST", "/v1/completions", body)[0]))
                       for _ in range(8)]  # fmt: skip
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            self.assertIn(503, codes)
            self.assertLessEqual(set(codes), {200, 503, 504})
            self.assertEqual(server.ask("GET", "/health")[0], 200)
        finally:
            server.end()


def fuzz(server, seconds, clients, seed=1):
    """Broken, huge, half-closed and parallel requests, and good ones between them that must be answered."""
    until = time.monotonic() + seconds
    wrong = []

    def client(number):
        rng = random.Random(seed * 1000 + number)
        while time.monotonic() < until and not wrong:
            try:
                one(rng)
            except Exception as e:  # noqa: BLE001 - any is a failure, named by its client
                wrong.append(f"client {number}: {e!r}")

    def one(rng):
        kind = rng.randrange(8)
        good = json.dumps({"prompt": "Question: ", "max_tokens": rng.randrange(1, 20), "stream": rng.random() < 0.3,
                           "n": rng.randrange(1, 4), "echo": rng.random() < 0.5, "logprobs": rng.choice([None, 1, 5])})  # fmt: skip
        head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n"
        request = head.format(len(good)).encode() + good.encode()
        if kind == 0:  # a good one
            status, _ = server.ask("POST", "/v1/completions", good, timeout=120)
            if status not in (200, 503):
                wrong.append(f"{good}: {status}")
        elif kind == 1:  # JSON with bytes changed
            bad = bytearray(good.encode())
            for _ in range(rng.randrange(1, 5)):
                bad[rng.randrange(len(bad))] = rng.randrange(256)
            status, _ = server.ask("POST", rng.choice(["/v1/completions", "/tokenize", "/detokenize"]), bytes(bad), 120)
            if status not in (200, 400, 404, 503):
                wrong.append(f"{bytes(bad)!r}: {status}")
        elif kind == 2:  # any bytes at all
            server.send(rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n", half_close=True)
        elif kind == 3:  # half a request, half closed
            server.send(request[: rng.randrange(len(request))], half_close=True)
        elif kind == 4:  # gone before the answer
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                connection.sendall(request)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif kind == 5:  # longer than it may be, or than it says
            server.send(head.format(10**9).encode() + b"x" * rng.randrange(10**6), half_close=True)
        elif kind == 6:  # headers that ask for what it does not do
            odd = rng.choice(["Range: bytes=5-2", "Range: bytes=" + ",".join(["0-"] * 900), "Range: bytes=9" + "9" * 40 + "-",
                              "Content-Encoding: gzip", "Content-Encoding: br", "Transfer-Encoding: chunked",
                              "Expect: 100-continue", "Content-Type: multipart/form-data; boundary=", "X: " + "x" * 10**5,
                              "Accept-Encoding: gzip, br", "Connection: keep-alive", "Content-Length: -1"])  # fmt: skip
            server.send(request.replace(b"Host: a", odd.encode()), half_close=rng.random() < 0.5)
        else:
            server.ask("GET", rng.choice(["/health", "/v1/models", "/tokenizer_info", "/v1/models/%00"]), timeout=120)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 180)
    if any(thread.is_alive() for thread in threads):
        wrong.append("a request is stuck")
    if server.process.poll() is not None:
        wrong.append(f"the server ended: {server.process.returncode}")
    if wrong:
        raise AssertionError("\n".join(wrong))


def resident_kilobytes(process):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])


def long_fuzz(seconds):
    setUpModule()
    server = Server(FOLDER, "writer_hf", "--coprocessor", "beside", "--max-body", 100_000)
    began = time.monotonic()
    turn = 0
    while time.monotonic() - began < seconds:
        turn += 1
        fuzz(server, seconds=min(30, seconds), clients=200, seed=turn)
        descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        print(f"{time.monotonic() - began:.0f} s: {resident_kilobytes(server.process)} KiB, {descriptors} descriptors",
              flush=True)  # fmt: skip
    status, _, errors = server.end()
    tearDownModule()
    print(f"ended with {status} in good order\n{errors[-500:]}")
    return 0 if status == 128 + signal.SIGTERM else 1


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--fuzz":
        sys.exit(long_fuzz(float(sys.argv[2])))
    unittest.main()
