-- KEYS: running sets. ARGV: owner. The owner stops: its shards wait again, due at once. Returns how many there were.
local count = 0
for _, running in ipairs(KEYS) do
  for _, id in ipairs(redis.call('SMEMBERS', running)) do
    local shard = read_shard(id)
    if shard and is_of(shard.token, ARGV[1]) then
      put_back(shard, 0)
      count = count + 1
    end
  end
end
return count
