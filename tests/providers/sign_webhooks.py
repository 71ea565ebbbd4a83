#!/usr/bin/env python3
"""Signs the cases in */webhooks/: the vectors come from Python's hmac and from openssl, not from the code they test.

A case is lines `name: value`, a blank line, the body, and below `---` what becomes of it (`UPDATE=1 cargo test` writes
that). The names in lower case are ours: `secrets` and `now` are what the account and the clock have, `body: hex` says
that the body is written in hex. The others are header fields of the request.

This fills in the signature where a header field has the value `SIGN secret` (SendGrid: `SIGN file-of-a-private-key`).
"""
import glob, hashlib, hmac, os, subprocess, sys, base64

here = os.path.dirname(os.path.abspath(__file__))
for name in sorted(glob.glob(os.path.join(here, "*", "webhooks", "*.txt"))):
    text = open(name).read()
    if "SIGN " not in text:
        continue
    head, rest = text.split("\n\n", 1)
    body = rest.split("\n---\n")[0].removesuffix("\n")
    fields = [line.split(": ", 1) for line in head.split("\n")]
    value = lambda wanted: next((v for n, v in fields if n.lower() == wanted), "")
    octets = bytes.fromhex(body) if value("body") == "hex" else body.encode()
    for field in fields:
        if not field[1].startswith("SIGN "):
            continue
        key = field[1].removeprefix("SIGN ")
        kind = field[0].lower()
        if kind == "x-nexuspromail-signature":
            field[1] = hmac.new(key.encode(), octets, hashlib.sha256).hexdigest()
        elif kind == "x-scaisend-signature":
            signed = value("x-scaisend-timestamp").encode() + b"." + octets
            field[1] = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
        else:
            signed = value("x-twilio-email-event-webhook-timestamp").encode() + octets
            der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=signed, capture_output=True, check=True)
            field[1] = base64.b64encode(der.stdout).decode()
    open(name, "w").write("\n".join(": ".join(field) for field in fields) + "\n\n" + rest)
    print(name)
