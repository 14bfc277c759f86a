-- The accounts of the ISPmail guide. Addresses compare without regard to ASCII case, as mail users expect. Tables that an
-- operator made by hand are kept as they are.
CREATE TABLE IF NOT EXISTS virtual_domains (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE
);

CREATE TABLE IF NOT EXISTS virtual_users (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  domain_id INTEGER NOT NULL REFERENCES virtual_domains (id) ON DELETE CASCADE,
  email     TEXT NOT NULL UNIQUE COLLATE NOCASE,
  password  TEXT
);

CREATE TABLE IF NOT EXISTS virtual_aliases (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  domain_id   INTEGER NOT NULL REFERENCES virtual_domains (id) ON DELETE CASCADE,
  source      TEXT NOT NULL COLLATE NOCASE,
  destination TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS virtual_aliases_source ON virtual_aliases (source);
