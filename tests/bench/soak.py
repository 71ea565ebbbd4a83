"""Many mails through the built binary while its API and its clients fail at random; counts what was said and what was taken.

    tests/bench/soak.py [--binary target/release/sidepost] [--mails 50000] [--clients 64] [--provider scaisend] [--seed 1]

The script is both ends: it plays the API, whose every acceptance it so knows, and the clients. Exit code 1: a promise of
the relay does not hold. tests/bench/README.md says what the numbers mean.
"""
import argparse
import asyncio
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import parse_qs

ATTEMPT, DEADLINE = 3, 12  # seconds, as the relay is told
TRIES = 40  # of one mail, before its client gives up
OK = b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"

# What the API does with a request, and how often in 10,000. "Taken" are those that it counts as accepted; of these
# `told` says so in a status line. What is neither taken nor told costs a retry, of the relay or of its client.
FAULTS = {
    "slow": 100, "slow-taken-drip": 20, "early-hints": 100, "truncated": 50, "empty": 100, "oversized": 10, "goodbye": 100,
    "503": 300, "503-pause": 2, "429": 3, "429-pause": 2, "408": 30, "500": 50, "500-taken": 50, "502-taken": 50, "504": 50,
    "reset-early": 100, "reset": 50, "reset-taken": 100, "half-head": 50, "half-head-taken": 50, "nonsense": 20,
    "hang": 5, "hang-taken": 5, "401": 5, "redirect": 5, "garbage": 5,
}
# Questions (GET /v3/messages) fail as well, and what was taken may be shown only later.
QUESTION_FAULTS = {"500": 200, "reset": 200, "blind": 500}
NOTHING = os.open(os.devnull, os.O_RDWR)
LATE = 0.2  # of the mails, up to three seconds
GAUGES = ("smtp_connections_open", "in_flight_bytes", "ledger_under_way", "api_requests_in_flight", "ledger_unfinished")
PLAIN = {"503": 503, "429": 429, "408": 408, "500": 500, "500-taken": 500, "502-taken": 502, "504": 504, "401": 401}


class Api:
    """The far end: takes mails, and knows what it took."""

    def __init__(self, provider, chance):
        self.nexus, self.chance = provider == "nexuspromail", chance
        self.accepted = defaultdict(list)  # (token, recipient) -> for each acceptance, whether the relay was told
        self.items = defaultdict(list)  # recipient -> when it is shown, and what is shown of it
        self.did = Counter()
        self.names, self.weights = list(FAULTS), list(FAULTS.values())

    async def serve(self):
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0, backlog=1024)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def fault(self):
        share = sum(self.weights)
        if self.chance.randrange(10_000) >= share:
            return "ok"
        return self.chance.choices(self.names, self.weights)[0]

    async def connection(self, reader, writer):
        try:
            while await self.request(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def request(self, reader, writer):
        """One request; whether the connection goes on."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        if head.startswith(b"GET "):
            return self.show(head, writer)
        fault = self.fault()
        self.did[fault] += 1
        if fault == "reset-early":
            return abort(writer)
        length = int(re.search(rb"content-length: (\d+)", head.lower()).group(1))
        body = json.loads(await reader.readexactly(length))
        refusal = self.refusal(body)
        if refusal:
            return self.answer(writer, *refusal)
        return await self.act(fault, body, reader, writer)

    def show(self, head, writer):
        """A question for mails, answered truly or not at all."""
        names = list(QUESTION_FAULTS)
        fault = self.chance.choices(names + [None], list(QUESTION_FAULTS.values()) + [10_000])[0]
        self.did["asked" if fault is None else f"asked, {fault}"] += 1
        if fault == "reset":
            return abort(writer)
        if fault == "500":
            return self.answer(writer, 500)
        now, to = time.monotonic(), parse_qs(head.split(b" ")[1].decode().split("?")[1])["to_email"][0]
        items = [] if fault == "blind" else [item for shown, item in self.items[to][-100:] if shown <= now]
        return self.answer(writer, 200, {"messages": items})

    def recipients(self, body):
        if self.nexus:
            return [body["to"]["email"]]
        return [to["email"] for group in body["personalizations"] for kind in ("to", "cc", "bcc") for to in group.get(kind, [])]

    def refusal(self, body):
        """What the API never takes: a mail with bad content, and recipients that it must not write to."""
        if "bad" in body["subject"]:
            return 400, {"errors": [{"message": "bad content", "field": "content"}], "error": "bad_content"}
        if self.nexus:
            if body["to"]["email"].startswith("suppressed"):
                return 422, {"error": "suppressed", "message": "recipient is suppressed"}
            return None
        for n, group in enumerate(body["personalizations"]):
            for kind in ("to", "cc", "bcc"):
                for m, to in enumerate(group.get(kind, [])):
                    if to["email"].startswith("suppressed"):
                        field = f"personalizations.{n}.{kind}.{m}.email"
                        return 422, {"errors": [{"message": f"{to['email']} is suppressed", "field": field}]}
        return None

    def answer(self, writer, status, body=None, more=""):
        text = json.dumps(body).encode() if body else b""
        writer.write(f"HTTP/1.1 {status} X\r\n{more}content-length: {len(text)}\r\n\r\n".encode() + text)
        return True

    def take(self, body, told):
        token = re.search(r"tok[0-9]+x", json.dumps(body)).group(0)
        for recipient in self.recipients(body):
            self.accepted[token, recipient].append(told)
        self.did["taken, told" if told else "taken, not told"] += 1
        name = f"m-{self.did['taken, told']}"
        shown = time.monotonic() + (3 * self.chance.random() if self.chance.random() < LATE else 0)
        for group in body.get("personalizations", []):
            to = [to["email"] for to in group["to"]]
            self.items[to[0]].append((shown, {"id": name, "to_emails": to, "custom_args": body.get("custom_args", {})}))
        return json.dumps({"message_id": name}).encode()

    async def act(self, fault, body, reader, writer):
        if fault.endswith("-taken") or fault == "slow-taken-drip":
            text = self.take(body, fault == "slow-taken-drip")
        elif fault in ("ok", "slow", "early-hints", "truncated", "empty", "oversized", "goodbye"):
            text = self.take(body, True)
        if fault == "slow":
            await asyncio.sleep(self.chance.random())
        if fault in PLAIN:
            # NexusProMail's 429 without a pause means a minute.
            return self.answer(writer, PLAIN[fault], None, "retry-after: 1\r\n" if fault == "429" and self.nexus else "")
        if fault in ("ok", "slow", "goodbye"):
            writer.write(OK % (len(text), text))
            return fault != "goodbye"  # Keep-alive, and closed all the same.
        if fault == "early-hints":
            writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK % (len(text), text))
            return True
        if fault == "empty":
            return self.answer(writer, 202)
        if fault in ("truncated", "slow-taken-drip"):
            writer.write(OK % (len(text) + 50, text[:9]))
            for _ in range(10 if fault == "slow-taken-drip" else 0):
                await asyncio.sleep(0.5)
                writer.write(b" ")
            return False
        if fault == "oversized":
            writer.write(OK % (1 << 20, b'{"message_id":"m","pad":"' + b"x" * (1 << 20)))
            return False
        if fault in ("503-pause", "429-pause"):
            return self.answer(writer, fault[:3], None, "retry-after: 1\r\n")
        if fault == "redirect":
            return self.answer(writer, 307, None, "location: http://127.0.0.1:9/\r\n")
        if fault == "garbage":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>")
            return True
        if fault == "nonsense":
            writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
            return False
        if fault.startswith("half-head"):
            writer.write(b"HTTP/1.1 202 Acc")
            return False
        if fault.startswith("hang"):
            await reader.read()  # Until the relay gives up.
        return abort(writer)


def abort(writer):
    """Ends a connection by RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


class Gone(Exception):
    """The client has left its connection on purpose."""


class Client:
    """One program that sends mail after mail, by one connection or by several."""

    def __init__(self, address, chance, tally):
        self.address, self.chance, self.tally, self.writer = address, chance, tally, None

    async def reply(self):
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 60)
            if not line:
                raise OSError("the relay closed the connection")
            if line[3:4] == b" ":
                return line.decode().rstrip()

    async def say(self, text):
        self.writer.write(text)
        return await self.reply()

    def leave(self):
        """Closes the connection now. The loop would do so later, and a reply that came meanwhile would look unheard."""
        if self.writer:
            end = self.writer.get_extra_info("socket")
            if self.chance.random() < 0.5:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if end.fileno() >= 0:
                os.dup2(NOTHING, end.fileno())
            self.writer.transport.abort()
        self.writer = None

    def hears_no_more(self):
        """Closes the client's side; whether no reply had come. One that has come was written for somebody: nobody could
        know that it was not read. What is told here at once is so when the connection is closed, right after it."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as twin:
            try:
                twin.shutdown(socket.SHUT_WR)
                return not self.reader._buffer and not twin.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except OSError:
                return True

    def vanish_at(self, point, wanted):
        if point == wanted:
            heard = point in ("after the dot", "a little later") and not self.hears_no_more()
            if heard:
                self.tally["vanished too late"] += 1
                return
            self.tally["vanished " + point] += 1
            self.leave()
            raise Gone

    async def open(self):
        host, port = self.address.rsplit(":", 1)
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        await self.reply()
        await self.say(b"EHLO client.test\r\n")

    async def envelope(self, recipients, vanish):
        lines = [b"MAIL FROM:<app@example.com>\r\n"] + [f"RCPT TO:<{r}>\r\n".encode() for r in recipients]
        if self.chance.random() < 0.5:
            self.writer.write(b"".join(lines))
            replies = [await self.reply() for _ in lines]
        else:
            replies = []
            for line in lines:
                replies.append(await self.say(line))
                self.vanish_at("after MAIL" if len(replies) == 1 else "after RCPT", vanish)
        return next((r for r in replies if not r.startswith("250 ")), None)

    async def once(self, mail, recipients):
        """One try; the final reply."""
        point = self.chance.random()
        points = ["after MAIL", "after RCPT", "after DATA", "in the message", "after the dot", "a little later"]
        vanish = points[int(point * 100)] if point < 0.06 else None
        if self.writer is None:
            await self.open()
        refused = await self.envelope(recipients, vanish)
        if refused:
            await self.say(b"RSET\r\n")
            return refused
        if self.chance.random() < 0.2:
            self.writer.write(b"BDAT %d LAST\r\n" % len(mail))
            content = mail
        else:
            reply = await self.say(b"DATA\r\n")
            if not reply.startswith("354 "):
                return reply
            content = mail.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        self.vanish_at("after DATA", vanish)
        if vanish == "in the message":
            self.writer.write(content[:len(content) // 2])
            self.vanish_at("in the message", vanish)
        self.writer.write(content)
        self.vanish_at("after the dot", vanish)
        begun = time.monotonic()
        if vanish == "a little later":
            await asyncio.sleep(self.chance.random() * 0.02)
            self.vanish_at("a little later", vanish)
        reply = await self.reply()
        if vanish in ("after the dot", "a little later"):
            self.leave()
        self.tally["slowest"] = max(self.tally["slowest"], time.monotonic() - begun)
        return reply

    async def deliver(self, mail, recipients):
        """Tries until there is a final reply, with equal octets."""
        for attempt in range(TRIES):
            self.tally["tries"] += 1
            try:
                reply = await self.once(mail, recipients)
            except Gone:
                continue  # At once: its first try may be running still.
            except (OSError, asyncio.TimeoutError) as error:
                self.tally[f"broken: {error}"] += 1
                self.leave()
                continue
            if reply[0] in "25":
                return reply
            self.tally["told " + reply[:9]] += 1
            if self.chance.random() < 0.3:
                self.leave()
            await asyncio.sleep(min(0.05 * 2 ** attempt, 2) * self.chance.random())
        return "given up"


def text_of(token, chance):
    bad = chance.random() < 0.01
    size = int(chance.paretovariate(0.8) * 200) % 60_000
    lines = "".join("." * chance.randrange(2) + "x" * 70 + "\r\n" for _ in range(size // 72))
    return (f"From: App <app@example.com>\r\nTo: Ann <ann@example.com>\r\nSubject: {'bad' if bad else 'hi'}\r\n\r\n"
            f"{token}\r\n{lines}").encode(), bad


class Relay:
    """The binary, with its log in a file."""

    def __init__(self, binary, url, provider, folder):
        settings = ["smtp.listen=smtp://127.0.0.1:0", "web.listen=127.0.0.1:0", f"providers.main.kind={provider}",
                    "providers.main.api_key=any", f"providers.main.base_url={url}", "providers.main.rate=20000/s",
                    "providers.main.burst=5000", "providers.main.probe_interval=50ms", "smtp.max_connections_per_client=1000",
                    f"providers.main.attempt_timeout={ATTEMPT}s", f"delivery.deadline={DEADLINE}s"]
        self.log = folder / "log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([binary, "serve"] + [w for s in settings for w in ("--set", s)], stderr=log)
        while "sends through" not in self.log.read_text():
            if self.process.poll() is not None:
                sys.exit(self.log.read_text())
            time.sleep(0.05)
        told = next(json.loads(line) for line in self.log.read_text().splitlines() if "listening" in line)
        self.smtp, self.web = told["smtp"], told["web"]

    def gauges(self):
        page = urllib.request.urlopen(f"http://{self.web}/metrics").read().decode()
        names = GAUGES + ("panics_total", "account_ready")
        found = {n: re.search(rf"^sidepost_{n}\S* (\S+)$", page, re.M) for n in names}
        return {n: int(float(m.group(1))) for n, m in found.items() if m}

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) // 1024


async def at_rest(relay, before):
    """Waits until everything is back to the start, for a while; what is not is a leak. Idle API connections live 15 s."""
    end = time.monotonic() + 40
    while True:
        gauges, descriptors = await asyncio.to_thread(relay.gauges), relay.descriptors()
        left = any(gauges[name] for name in GAUGES)
        if (not left and descriptors <= before) or time.monotonic() > end:
            return {**gauges, "descriptors": descriptors - before}
        await asyncio.sleep(0.5)


async def soak(options, folder):
    chance = random.Random(options.seed)
    api, tally = Api(options.provider, random.Random(options.seed + 1)), Counter()
    relay = Relay(options.binary, await api.serve(), options.provider, folder)
    await asyncio.to_thread(relay.gauges)
    before, memory, begun = relay.descriptors(), relay.memory(), time.monotonic()
    replies, numbers = {}, iter(range(options.mails))

    async def client(n):
        chance = random.Random(options.seed * 1000 + n)
        smtp = Client(relay.smtp, chance, tally)
        for number in numbers:
            token = f"tok{number}x"
            mail, bad = text_of(token, chance)
            count = chance.choice([1, 1, 1, 2, 3])
            recipients = [f"{'suppressed' if chance.random() < 0.02 else 'r'}{i}.{number % 997}@example.net" for i in range(count)]
            replies[token] = (recipients, await smtp.deliver(mail, recipients), bad)
            if chance.random() < 0.05:
                smtp.leave()
            if len(replies) % 5000 == 0:
                print(f"{len(replies)} mails after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        smtp.leave()

    try:
        await asyncio.gather(*(client(n) for n in range(options.clients)))
        took = time.monotonic() - begun
        left = await at_rest(relay, before)
        left["memory, MiB"] = f"{memory} -> {relay.memory()}"
        relay.process.terminate()
        ended = await asyncio.to_thread(relay.process.wait)
        return report(options, api, tally, replies, left, took, ended)
    finally:
        relay.process.kill()


def report(options, api, tally, replies, left, took, ended):
    said = {token: recipients for token, (recipients, reply, _) in replies.items() if reply.startswith("250 ")}
    lost = [(t, r) for t, recipients in said.items() for r in recipients
            if not r.startswith("suppressed") and not api.accepted[t, r]]
    refused = [t for t, (recipients, reply, _) in replies.items()
               if reply[0] == "5" and any(api.accepted[t, r] for r in recipients)]
    knowable = unknowable = 0
    for times in api.accepted.values():
        for n in range(1, len(times)):
            # Once the relay has been told of one acceptance, a further request is its fault.
            told = any(times[:n])
            knowable, unknowable = knowable + told, unknowable + (not told)
    given_up = sum(reply == "given up" for _, reply, _ in replies.values())
    print(f"provider {options.provider}, seed {options.seed}: {len(replies)} mails in {took:.0f} s, {tally['tries']} tries, "
          f"{sum(v for k, v in api.did.items() if not k.startswith('taken'))} requests")
    print(f"said 250            {len(said)}")
    print(f"said 5yz            {sum(reply[0] == '5' for _, reply, _ in replies.values())}")
    print(f"given up            {given_up}")
    print(f"accepted            {sum(map(bool, api.accepted.values()))} recipients, {sum(map(len, api.accepted.values()))} times")
    print(f"lost                {len(lost)}    (250 said, not accepted)")
    print(f"refused, but taken  {len(refused)}    (5yz said, accepted)")
    print(f"duplicates          {knowable} knowable, {unknowable} unknowable (the answer to the first was lost)")
    print(f"slowest reply       {tally.pop('slowest'):.2f} s of {DEADLINE} s")
    print(f"left at the end     {left}, exit code {ended}")
    for title, counts in (("API", api.did), ("clients", tally)):
        print(f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    unfinished = left["ledger_unfinished"] and not given_up  # What a client has given up stays for a day.
    leaked = any(left[name] for name in GAUGES[:-1]) or unfinished or left["descriptors"] > 0 or left["panics_total"]
    for token, recipient in lost[:5]:
        print("LOST", token, recipient, replies[token][1])
    return 1 if lost or refused or knowable or leaked or ended or len(replies) != options.mails else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/sidepost")
    parser.add_argument("--mails", type=int, default=50_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--provider", default="scaisend", choices=["scaisend", "nexuspromail", "sendgrid"])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return asyncio.run(soak(options, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
