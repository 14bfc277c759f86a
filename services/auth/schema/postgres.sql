-- The accounts of the ISPmail guide, for PostgreSQL. Store addresses in lower case: text compares byte by byte here.
CREATE TABLE virtual_domains (
  id   SERIAL PRIMARY KEY,
  name VARCHAR(255) NOT NULL UNIQUE
);

CREATE TABLE virtual_users (
  id        SERIAL PRIMARY KEY,
  domain_id INTEGER NOT NULL REFERENCES virtual_domains (id) ON DELETE CASCADE,
  email     VARCHAR(320) NOT NULL UNIQUE,
  password  VARCHAR(255)
);

CREATE TABLE virtual_aliases (
  id          SERIAL PRIMARY KEY,
  domain_id   INTEGER NOT NULL REFERENCES virtual_domains (id) ON DELETE CASCADE,
  source      VARCHAR(320) NOT NULL,
  destination VARCHAR(320) NOT NULL
);

CREATE INDEX virtual_aliases_source ON virtual_aliases (source);
