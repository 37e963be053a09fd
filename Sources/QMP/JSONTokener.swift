import CJSONC

/// One json-c tokener: takes the bytes of a value in pieces, gives the parsed value at its end.
final class JSONTokener {
  enum Outcome: ~Copyable {
    case incomplete
    case parsed(ParsedJSON)
    /// The reason, and how many bytes of this piece stood before the offending one.
    case refused(String, index: Int)
  }

  /// Longest string buffer kept from one value to the next, in bytes.
  private static let retainedBytes = 64 << 10

  private var handle: UnsafeMutablePointer<json_tokener>?
  private let depth: Int

  private var takenBytes = 0

  /// How often bytes were taken, so that one of two users can see that the other was here.
  private(set) var revision: UInt64 = 0

  init(limits: QMPLimits) {
    // The scanner counts the levels; json-c needs one more for the values inside the innermost.
    depth = limits.depth + 2
    handle = Self.makeHandle(depth: depth)
  }

  deinit {
    if let handle { json_tokener_free(handle) }
  }

  /// Takes the next bytes of a value, which must not reach beyond its end.
  func take(_ bytes: UnsafeRawBufferPointer) -> Outcome {
    revision &+= 1
    guard let handle else { return .refused("no memory for a JSON parser", index: 0) }
    var start = 0
    while start < bytes.count {
      let count = min(bytes.count - start, Int(Int32.max))
      let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<start + count])
      let root = json_tokener_parse_ex(
        handle, piece.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(count))
      let error = json_tokener_get_error(handle)
      if error == json_tokener_continue {
        start += count
        takenBytes += count
        continue
      }
      let parsed = ParsedJSON(root: root)
      let end = start + min(Int(json_tokener_get_parse_end(handle)), count)
      guard error == json_tokener_success, end == bytes.count else {
        return .refused(Self.text(of: error), index: end)
      }
      takenBytes += end - start
      becomeSmall()
      return .parsed(parsed)
    }
    return .incomplete
  }

  /// After a long value, gives back the buffer that json-c keeps for its longest string.
  private func becomeSmall() {
    if takenBytes > Self.retainedBytes, let handle {
      json_tokener_free(handle)
      self.handle = Self.makeHandle(depth: depth)
    }
    takenBytes = 0
  }

  private static func makeHandle(depth: Int) -> UnsafeMutablePointer<json_tokener>? {
    let handle = json_tokener_new_ex(Int32(depth))
    if let handle { json_tokener_set_flags(handle, JSON_TOKENER_STRICT) }
    return handle
  }

  private static func text(of error: json_tokener_error) -> String {
    guard error != json_tokener_success, let text = json_tokener_error_desc(error) else {
      return "unexpected end of value"
    }
    return String(cString: text)
  }
}

/// A value as json-c holds it, released when this goes.
struct ParsedJSON: ~Copyable {
  /// The value; nil is JSON's `null`.
  let root: OpaquePointer?

  deinit {
    json_object_put(root)
  }
}

/// A value inside a `ParsedJSON`, not to be used after it is gone; nil is JSON's `null`.
struct JSONNode {
  let pointer: OpaquePointer?

  /// Why `value` can be nil.
  static let unrepresentable = "a number is too large for a double"

  init(_ pointer: OpaquePointer?) { self.pointer = pointer }

  /// The member called `name`, which may be `null`; nil if there is none or this is no object.
  func member(_ name: StaticString) -> JSONNode? {
    guard json_object_is_type(pointer, json_type_object) != 0 else { return nil }
    var value: OpaquePointer?
    let found = name.withUTF8Buffer { buffer in
      buffer.withMemoryRebound(to: CChar.self) {
        json_object_object_get_ex(pointer, $0.baseAddress, &value)
      }
    }
    return found != 0 ? JSONNode(value) : nil
  }

  var isObject: Bool { json_object_is_type(pointer, json_type_object) != 0 }

  /// The text of a string, otherwise nil.
  var string: String? {
    json_object_is_type(pointer, json_type_string) != 0 ? text : nil
  }

  /// An integer, otherwise nil.
  var integer: JSONValue? {
    guard json_object_is_type(pointer, json_type_int) != 0 else { return nil }
    let signed = json_object_get_int64(pointer)
    // json-c stops at the signed maximum; the unsigned reading tells whether there is more.
    return signed == .max ? JSONValue(json_object_get_uint64(pointer)) : .integer(signed)
  }

  /// Whether an array of strings has `text` among its elements.
  func contains(_ text: String) -> Bool {
    guard json_object_is_type(pointer, json_type_array) != 0 else { return false }
    return (0..<json_object_array_length(pointer)).contains { index in
      JSONNode(json_object_array_get_idx(pointer, index)).string == text
    }
  }

  /// The value with all below it; nil if a number is too large for a double.
  var value: JSONValue? {
    switch json_object_get_type(pointer) {
    case json_type_null: return .null
    case json_type_boolean: return .bool(json_object_get_boolean(pointer) != 0)
    case json_type_int: return integer
    case json_type_double:
      let number = json_object_get_double(pointer)
      return number.isFinite ? .number(number) : nil
    case json_type_string: return .string(text)
    case json_type_array: return array
    case json_type_object: return object
    default: return nil
    }
  }

  private var text: String {
    guard let start = json_object_get_string(pointer) else { return "" }
    let count = Int(json_object_get_string_len(pointer))
    return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
  }

  private var array: JSONValue? {
    let count = json_object_array_length(pointer)
    var elements: [JSONValue] = []
    elements.reserveCapacity(count)
    for index in 0..<count {
      guard let value = JSONNode(json_object_array_get_idx(pointer, index)).value else {
        return nil
      }
      elements.append(value)
    }
    return .array(elements)
  }

  private var object: JSONValue? {
    var members: [JSONObject.Member] = []
    members.reserveCapacity(Int(json_object_object_length(pointer)))
    var iterator = json_object_iter_begin(pointer)
    var end = json_object_iter_end(pointer)
    while json_object_iter_equal(&iterator, &end) == 0 {
      guard let name = json_object_iter_peek_name(&iterator),
        let value = JSONNode(json_object_iter_peek_value(&iterator)).value
      else { return nil }
      members.append((String(cString: name), value))
      json_object_iter_next(&iterator)
    }
    return .object(JSONObject(distinct: members))
  }
}
