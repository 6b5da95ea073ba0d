-- Times are microseconds since 1970-01-01 UTC. The text is meant for SQLite and PostgreSQL alike.

CREATE TABLE projects (
    name    TEXT   NOT NULL PRIMARY KEY,
    file    TEXT   NOT NULL,
    seen_at BIGINT NOT NULL
);

CREATE TABLE access_keys (
    position   BIGINT NOT NULL PRIMARY KEY,
    project    TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    scope      TEXT   NOT NULL,
    hash       TEXT   NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    UNIQUE (project, id)
);

CREATE TABLE runs (
    project      TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    model        TEXT   NOT NULL,
    trigger_name TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    started_at   BIGINT NOT NULL,
    finished_at  BIGINT,
    version      BIGINT,
    summary      TEXT   NOT NULL,
    detail       TEXT   NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE INDEX runs_by_model ON runs (project, model, id);

CREATE TABLE versions (
    project    TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    number     BIGINT  NOT NULL,
    run        TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    artifact   TEXT    NOT NULL,
    passed     BOOLEAN NOT NULL,
    detail     TEXT    NOT NULL,
    PRIMARY KEY (project, model, number)
);

-- Every change of the champion of a model; the last one holds.
CREATE TABLE champions (
    project  TEXT   NOT NULL,
    model    TEXT   NOT NULL,
    position BIGINT NOT NULL,
    number   BIGINT,
    at       BIGINT NOT NULL,
    PRIMARY KEY (project, model, position),
    FOREIGN KEY (project, model, number) REFERENCES versions (project, model, number)
);

CREATE TABLE audit (
    position BIGINT NOT NULL PRIMARY KEY,
    project  TEXT,
    at       BIGINT NOT NULL,
    actor    TEXT   NOT NULL,
    action   TEXT   NOT NULL,
    subject  TEXT   NOT NULL,
    reason   TEXT   NOT NULL
);

CREATE INDEX audit_by_project ON audit (project, position);
