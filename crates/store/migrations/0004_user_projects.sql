-- The projects that a user may see, as a JSON list of names; absent where they see all, also those to come.

ALTER TABLE users ADD COLUMN projects TEXT;
