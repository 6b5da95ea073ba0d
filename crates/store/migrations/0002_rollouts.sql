-- How versions took over, one row for each; the newest of a model may be under way.
CREATE TABLE rollouts (
    project    TEXT             NOT NULL,
    model      TEXT             NOT NULL,
    position   BIGINT           NOT NULL,
    version    BIGINT           NOT NULL,
    champion   BIGINT,
    stage      TEXT             NOT NULL,
    share      DOUBLE PRECISION NOT NULL,
    started_at BIGINT           NOT NULL,
    since      BIGINT           NOT NULL,
    actor      TEXT             NOT NULL,
    reason     TEXT             NOT NULL,
    detail     TEXT             NOT NULL,
    PRIMARY KEY (project, model, position),
    FOREIGN KEY (project, model, version) REFERENCES versions (project, model, number)
);
