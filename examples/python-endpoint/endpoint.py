"""An endpoint that handles commands, in Python's standard library: it verifies a signed call, handles it, and answers.

    KEYS=whsec_… URL=http://127.0.0.1:8080/execute PORT=8080 python3 endpoint.py

KEYS are separated by spaces; URL is what callers call, character by character. The worker's side is in worker.ts.
Behind TLS in production: Python's own server is for trying things out.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300
MAX_BYTES = 320 * 1024
ARRIVAL_S = 10


class PermanentFailure(Exception):
    """Another attempt is no use."""


def count_words(call):
    """The one command that is handled here. What it returns is its output, and the commands that follow."""
    text = call["input"]["text"]
    if not isinstance(text, str):
        raise PermanentFailure("text must be a string")
    words = re.findall(r"\w+", text)
    if not words:
        raise PermanentFailure("there is no word in it")
    longest = max(words, key=len)
    # Whoever called commits this with the outcome: it needs no database here.
    follow_ups = [{"name": "define_word", "input": {"word": longest}}] if len(longest) > 10 else []
    return {"words": len(words), "longest": longest}, follow_ups


HANDLERS = {("count_words", 1): count_words}


class Refusal(Exception):
    def __init__(self, status, title):
        super().__init__(title)
        self.status = status


def verify(keys, headers, body):
    """Standard Webhooks: HMAC-SHA256 over id.timestamp.body, in any of the signatures, by any of the keys."""
    call_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not call_id or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise Refusal(401, "The call is not signed")
    if abs(time.time() - int(timestamp)) > TOLERANCE_S:
        raise Refusal(401, "The call's timestamp is too far off")
    content = f"{call_id}.{timestamp}.".encode() + body
    expected = [hmac.new(key, content, hashlib.sha256).digest() for key in keys]
    for signature in headers.get("webhook-signature", "").split(" ")[:16]:
        version, _, text = signature.partition(",")
        if version != "v1":
            continue
        try:
            given = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
        # In constant time: how much of it is right must not show.
        if any(hmac.compare_digest(given, one) for one in expected):
            return call_id
    raise Refusal(401, "No signature of the call is by a known key")


def outcome_of(call):
    handler = HANDLERS.get((call["name"], call["version"]))
    if handler is None:
        raise Refusal(404, "There is no handler here for the call's command and version")
    try:
        output, follow_ups = handler(call)
        return {"status": "succeeded", "output": output, "followUps": follow_ups}
    except Exception as error:
        code = "permanent" if isinstance(error, PermanentFailure) else "error"
        failure = {"code": code, "name": type(error).__name__, "message": str(error)[:1000]}
        return {"status": "failed", "error": failure, "retry": code == "error"}


class Answers:
    """What was answered under an id, for ten minutes: what comes again runs once, and waits for the same answer."""

    def __init__(self):
        self.lock = threading.Lock()
        self.known = {}

    def once(self, call_id, work):
        with self.lock:
            now = time.monotonic()
            self.known = {key: entry for key, entry in self.known.items() if entry["until"] > now}
            entry = self.known.get(call_id)
            is_first = entry is None
            if is_first:
                entry = {"until": now + 2 * TOLERANCE_S, "done": threading.Event(), "answer": None}
                self.known[call_id] = entry
        if is_first:
            try:
                entry["answer"] = work()
            finally:
                entry["done"].set()
        entry["done"].wait()
        if entry["answer"] is None:
            raise Refusal(404, "There is no answer to the call")
        return entry["answer"]


def make_server(port, keys, url):
    answers = Answers()

    class Endpoint(BaseHTTPRequestHandler):
        # Of each read by itself.
        timeout = ARRIVAL_S

        def setup(self):
            super().setup()
            # Of the whole call, however it drips: whatever is read then has come to its end.
            self.limit = threading.Timer(ARRIVAL_S, self.hang_up)
            self.limit.daemon = True
            self.limit.start()

        def hang_up(self):
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def handle(self):
            # Whoever has gone gets no answer.
            with contextlib.suppress(ConnectionError):
                super().handle()

        def finish(self):
            self.limit.cancel()
            super().finish()

        def do_POST(self):
            try:
                status, answer = 200, self.receive()
            except Refusal as refusal:
                status, answer = refusal.status, {"status": refusal.status, "title": str(refusal)}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json" if status == 200 else "application/problem+json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def receive(self):
            length = self.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > MAX_BYTES:
                raise Refusal(413, f"A call has at most {MAX_BYTES} bytes")
            body = self.rfile.read(int(length))
            self.limit.cancel()
            if len(body) < int(length):
                raise TimeoutError("The call broke off")
            call_id = verify(keys, self.headers, body)
            # Signed: from here on it is a worker's.
            call = json.loads(body)
            if call_id != f"{call['id']}.{call['fence']}":
                raise Refusal(400, "The call's webhook-id is not that of its body")
            if call["url"] != url(self.server):
                raise Refusal(421, "The call was made to another URL")
            return answers.once(call_id, lambda: outcome_of(call))

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Endpoint)


def main():
    keys = [base64.b64decode(key.removeprefix("whsec_")) for key in os.environ["KEYS"].split()]
    own = os.environ.get("URL")
    server = make_server(
        int(os.environ.get("PORT", "8080")),
        keys,
        lambda server: own or f"http://127.0.0.1:{server.server_port}/execute",
    )
    print(f"Listening on http://127.0.0.1:{server.server_port}/execute", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
