-- KEYS: shard. ARGV: id, token, seconds. A shard that waits gets a worker; false if it has one, or is gone.
local shard = read_shard(ARGV[1])
if not shard or shard.token ~= '' then return false end
redis.call('HSET', shard.key, 'token', ARGV[2], 'alive_until', stamp(now() + tonumber(ARGV[3])))
redis.call('SMOVE', shard.waiting, shard.running, shard.id)
return described(shard)
