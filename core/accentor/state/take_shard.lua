-- KEYS: shard. ARGV: id, token, seconds. A shard that waits gets a worker; false if it has one, or is gone.
local shard = read_shard(ARGV[1])
if not shard or shard.token ~= '' then return false end
hand_over(shard, ARGV[2], tonumber(ARGV[3]))
return described(shard)
