-- KEYS: shard. ARGV: id, seconds until due, then triples of start, stop, attempts. The waiting shard becomes several.
local shard = read_shard(ARGV[1])
if not shard or shard.token ~= '' then return {} end
forget_shard(shard)
local parts = {}
for position = 3, #ARGV, 3 do
  local id = new_shard(shard.batch, tonumber(ARGV[position]), tonumber(ARGV[position + 1]), shard.lane, shard.model,
    ARGV[position + 2], tonumber(ARGV[2]))
  parts[#parts + 1] = described(read_shard(id))
end
return parts
