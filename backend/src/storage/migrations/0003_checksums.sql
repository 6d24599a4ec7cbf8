-- The CRC-32 of each picture, so that bytes that changed on the disk are not served for it; absent
-- for those that were kept before.
ALTER TABLE frames ADD COLUMN crc32 INTEGER;
