-- People who use the console. Secrets are only kept as hashes: passwords by argon2id, links and sessions by SHA-256.

CREATE TABLE users (
    name       TEXT   NOT NULL PRIMARY KEY,
    role       TEXT   NOT NULL,
    password   TEXT,
    created_at BIGINT NOT NULL
);

-- Links that sign a user in once.
CREATE TABLE sign_in_links (
    hash       TEXT   NOT NULL PRIMARY KEY,
    user_name  TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (user_name) REFERENCES users (name) ON DELETE CASCADE
);

CREATE TABLE sessions (
    hash       TEXT   NOT NULL PRIMARY KEY,
    user_name  TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (user_name) REFERENCES users (name) ON DELETE CASCADE
);
