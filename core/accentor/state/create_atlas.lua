-- KEYS: record, atlases, open. ARGV: id, created_at, then the record's fixed fields. A second time changes nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'created_at', ARGV[2], 'state', 'queued', 'revision', 0, unpack(ARGV, 3))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
