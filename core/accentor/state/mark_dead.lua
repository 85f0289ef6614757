-- KEYS: shard. ARGV: id, owner. The owner's process is known to be dead: the next sweep takes the shard from it.
local token = redis.call('HGET', KEYS[1], 'token')
if not token or not is_of(token, ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'alive_until', 0, 'suspect_at', 0)
return 1
