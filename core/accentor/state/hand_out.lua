-- KEYS: ring, waiting. ARGV: lane, model, window, jobs of a shard, seconds until its message is due again.
-- The next shard of the next batch in the ring, unless enough shards wait already.
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[3]) then return false end
local id = next_shard(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]))
return id and described(read_shard(id))
