-- KEYS: shard. ARGV: id, token, seconds. A sign of life; 0 if the shard is not this worker's any more.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'alive_until', stamp(now() + tonumber(ARGV[3])))
redis.call('HDEL', KEYS[1], 'suspect_at')
return 1
