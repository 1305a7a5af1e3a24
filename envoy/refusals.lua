-- The transcoder refuses a body or a query with one line of text: "event.status_code: invalid value "abc" for type
-- TYPE_INT32". This turns it into what the services answer: google.rpc.Status with a google.rpc.BadRequest that names
-- the field as it stands in the JSON.

local VALUE_EXPECTED = {
  TYPE_BOOL = "true or false", TYPE_STRING = "a string", TYPE_BYTES = "a base64 string",
  TYPE_INT32 = "a 32-bit integer", TYPE_INT64 = "a 64-bit integer", TYPE_DOUBLE = "a number", TYPE_FLOAT = "a number",
}

-- status_code -> statusCode
local function json_name(path)
  return (path:gsub("_(%l)", string.upper))
end

local ESCAPES = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t"}

local function quoted(text)
  local escaped = text:gsub('[%c"\\]', function(char)
    return ESCAPES[char] or string.format("\\u%04x", char:byte())
  end)
  return '"' .. escaped .. '"'
end

local function join(path, field)
  if path == "" then return field end
  return path .. "." .. field
end

-- What kind of value the field takes, from the type's name in the complaint.
local function expected(type_name)
  local message = type_name:match("([%w_]+)$")
  return VALUE_EXPECTED[type_name] or ("a value of " .. (message or type_name))
end

-- The field that a complaint is about, and what is wrong with it; the field is nil when the text is not JSON at all.
local function violation(text)
  local path, value, type_name = text:match("^([%w_%.%[%]]*): invalid value (.*) for type ([^%s]+)$")
  if path then
    if value == "Starting an object on a scalar field" then
      return join(path, type_name), "an object where one value is expected"
    end
    local twice = value:match("^oneof field '[%w_]+' is already set%. Cannot set '([%w_]+)'$")
    if twice then return join(path, twice), "another field that excludes it is set as well" end
    local explained = value:match("^Field '[%w_]+', (.*)$")
    if explained then return path, explained end
    return path, expected(type_name) .. " is expected, not " .. value
  end
  path = text:match("^([%w_%.%[%]]*): Proto field is not repeating, cannot start list%.$")
  if path == "" then return path, "a list where one value is expected" end
  -- The transcoder does not say which.
  if path then return path, "one of its fields has a list where one value is expected" end
  local unknown = text:match('^Could not find field "(.-)" in the type')
  if unknown then return unknown, "there is no such query parameter" end
  local bound = text:match("^The binding value .* of the field ([%w_%.]+) is conflicting")
  if bound then return bound, "the path has another value" end
  path = text:match("^([%w_%.%[%]]+): ")
  if path then return path, text:sub(#path + 3) end
  return nil, text
end

local function answer(text)
  local field, description = violation(text)
  local reason = "INVALID_REQUEST"
  if not field then
    field, reason, description = "body", "MALFORMED_MESSAGE", "not valid JSON: " .. description
  elseif field == "" then
    field = "body"
  end
  -- The body of such a request is the event, or the rule, so that its fields stand at the top.
  field = json_name(field):gsub("^event%.", ""):gsub("^alertRule%.", "")
  return '{"code":3,"message":' .. quoted(field .. ": " .. description)
    .. ',"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"' .. reason
    .. '","domain":"tocsin.dev","metadata":{}},{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":'
    .. quoted(field) .. ',"description":' .. quoted(description) .. "}]}]}"
end

function envoy_on_response(handle)
  if not handle:headers():get("x-tocsin-refused") then return end
  local body = handle:body(true)
  local length = body:length()
  local text = length > 0 and body:getBytes(0, length) or "the request is not valid"
  -- Asked for again: what was given before the body had come is out of scope.
  local headers = handle:headers()
  headers:remove("x-tocsin-refused")
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(body:setBytes(answer(text))))
end
