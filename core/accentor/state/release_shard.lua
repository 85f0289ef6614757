-- KEYS: shard. ARGV: id, token, seconds until its message is due again.
-- Its worker lets go of it; returns how many of its jobs are left, 0 also if it was not this worker's.
local shard = read_shard(ARGV[1])
if not shard or shard.token ~= ARGV[2] then return 0 end
return put_back(shard, tonumber(ARGV[3]))
