-- Times are milliseconds since 1970.

-- Who says that an address is suppressed, and why. What is shown as one entry is all that stands here for its address and
-- scope: so each webhook can take back what it said, and nothing else.
CREATE TABLE suppressions (
    address  TEXT NOT NULL,
    scope    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    source   TEXT NOT NULL,
    since    INTEGER NOT NULL,
    until    INTEGER,
    evidence TEXT NOT NULL,
    PRIMARY KEY (address, scope, reason, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX suppressions_until ON suppressions (until) WHERE until IS NOT NULL;

-- Addresses that an operator took off the list: what happened or came before does not bring them back. Scope '': all.
CREATE TABLE lifted (
    address TEXT NOT NULL,
    scope   TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (address, scope)
) STRICT, WITHOUT ROWID;

-- Events of webhooks. folded: the recipient in lower case; domain: that of the mail's sender, where it is known.
CREATE TABLE events (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    account    TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    received   INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    word       TEXT NOT NULL,
    at         INTEGER NOT NULL,
    message_id TEXT,
    recipient  TEXT,
    folded     TEXT,
    domain     TEXT,
    reason     TEXT,
    raw        BLOB NOT NULL,
    UNIQUE (account, event_id)
) STRICT;
CREATE INDEX events_received ON events (received);
CREATE INDEX events_recipient ON events (folded, account, kind, at) WHERE folded IS NOT NULL;
CREATE INDEX events_message ON events (message_id) WHERE message_id IS NOT NULL;

-- Events whose effects are not done. A table of its own: the rows of events are long.
CREATE TABLE waiting (
    number INTEGER PRIMARY KEY
) STRICT;

-- The ids of events that had to go before their time, so that they are known when they come again.
CREATE TABLE seen (
    account  TEXT NOT NULL,
    event_id TEXT NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (account, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_received ON seen (received);

-- Events that wait to be forwarded.
CREATE TABLE outbox (
    number  INTEGER PRIMARY KEY,
    tries   INTEGER NOT NULL,
    next_at INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_next ON outbox (next_at);

-- The message log: one recipient of one transaction a row.
CREATE TABLE messages (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL,
    at          INTEGER NOT NULL,
    client      TEXT,
    principal   TEXT,
    sender      TEXT,
    recipient   TEXT NOT NULL,
    account     TEXT NOT NULL,
    provider_id TEXT,
    outcome     TEXT NOT NULL,
    reply       TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    folded      TEXT NOT NULL,
    folded_sender TEXT,
    UNIQUE (id, recipient)
) STRICT;
CREATE INDEX messages_at ON messages (at);
CREATE INDEX messages_recipient ON messages (folded, at);
CREATE INDEX messages_sender ON messages (folded_sender, at) WHERE folded_sender IS NOT NULL;
CREATE INDEX messages_provider_id ON messages (provider_id) WHERE provider_id IS NOT NULL;

-- The ledger: recipients of unfinished transactions that were accepted already; with a marker: that may have been.
CREATE TABLE marks (
    key         BLOB NOT NULL,
    recipient   TEXT NOT NULL,
    account     TEXT NOT NULL,
    provider_id TEXT,
    marker      TEXT,
    since       INTEGER NOT NULL,
    PRIMARY KEY (key, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX marks_since ON marks (since);
