-- Script for wrk: posts the images in the folder $IMAGES as multipart forms, one after the other.
local bodies = {}
local at = 0
local boundary = "carbench-boundary"

for name in io.popen('ls "' .. os.getenv("IMAGES") .. '"'):lines() do
  local file = io.open(os.getenv("IMAGES") .. "/" .. name, "rb")
  bodies[#bodies + 1] = "--" .. boundary .. '\r\nContent-Disposition: form-data; name="image"; filename="'
    .. name .. '"\r\nContent-Type: image/jpeg\r\n\r\n' .. file:read("*a") .. "\r\n--" .. boundary .. "--\r\n"
  file:close()
end

local headers = { ["Content-Type"] = "multipart/form-data; boundary=" .. boundary }

function request()
  at = at % #bodies + 1
  return wrk.format("POST", "/predict", headers, bodies[at])
end

function done(summary, latency, requests)
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "errors": %d, "p50": %f, "p95": %f, "p99": %f}\n',
    summary.requests, summary.duration / 1e6,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
