-- KEYS: record. ARGV: id, indices. Running jobs become queued; returns how many did.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
return requeue(batch_of(table.remove(ARGV, 1)), ARGV)
