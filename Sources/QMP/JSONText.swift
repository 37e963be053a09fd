/// JSON as text.
public enum JSONText {
  /// The value as compact UTF-8 text, members in order, slashes as they are.
  ///
  /// Numbers that JSON cannot write (not finite) become `null`.
  public static func encode(_ value: JSONValue) -> [UInt8] {
    var text: [UInt8] = []
    append(value, to: &text)
    return text
  }

  /// The one value that `bytes` hold, white space around it allowed.
  ///
  /// Integers beyond 64 bits are refused rather than rounded, and so is a member name with a NUL.
  public static func decode(
    _ bytes: UnsafeRawBufferPointer, limits: QMPLimits = .standard
  ) throws(JSONParseError) -> JSONValue {
    var reader = JSONReader(limits: limits, takesAnyValue: true)
    var position = 0
    switch reader.next(in: bytes, at: &position) {
    case .refused(let text):
      throw JSONParseError(text: text, offset: position)
    case .parsed(let parsed):
      if let rest = bytes[position...].firstIndex(where: { !JSONScanner.isWhiteSpace($0) }) {
        throw JSONParseError(text: "something follows the value", offset: rest)
      }
      return try value(of: parsed, end: position)
    case .incomplete:
      switch reader.finish() {
      case .parsed(let parsed): return try value(of: parsed, end: position)
      case .refused(let text): throw JSONParseError(text: text, offset: bytes.count)
      case .incomplete: throw JSONParseError(text: "the text ends early", offset: bytes.count)
      }
    }
  }

  private static func value(
    of parsed: borrowing ParsedJSON, end: Int
  ) throws(JSONParseError) -> JSONValue {
    guard let value = JSONNode(parsed.root).value else {
      throw JSONParseError(text: JSONNode.unrepresentable, offset: end)
    }
    return value
  }
}

/// Why a text is not JSON as this library reads it.
public struct JSONParseError: Error, Sendable, Equatable {
  public var text: String
  /// The byte at which reading stopped, counted from 0.
  public var offset: Int

  public init(text: String, offset: Int) {
    self.text = text
    self.offset = offset
  }
}

// MARK: - Writing

// Written here and not through json-c: a command is a few bytes on the way out of the blackout, and
// json-c would build a tree for it and cut member names at a NUL.
extension JSONText {
  static func append(_ value: JSONValue, to text: inout [UInt8]) {
    switch value {
    case .null: append(literal: "null", to: &text)
    case .bool(let truth): append(literal: truth ? "true" : "false", to: &text)
    case .integer(let integer):
      if integer < 0 { text.append(UInt8(ascii: "-")) }
      append(integer.magnitude, to: &text)
    case .unsigned(let integer): append(integer, to: &text)
    case .number(let number):
      if number.isFinite {
        text.append(contentsOf: number.description.utf8)
      } else {
        append(literal: "null", to: &text)
      }
    case .string(let string): append(quoted: string, to: &text)
    case .array(let elements):
      text.append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        append(element, to: &text)
      }
      text.append(UInt8(ascii: "]"))
    case .object(let object): append(object, to: &text)
    }
  }

  static func append(_ object: JSONObject, to text: inout [UInt8]) {
    text.append(UInt8(ascii: "{"))
    var isFirst = true
    for (name, value) in object {
      if !isFirst { text.append(UInt8(ascii: ",")) }
      isFirst = false
      append(quoted: name, to: &text)
      text.append(UInt8(ascii: ":"))
      append(value, to: &text)
    }
    text.append(UInt8(ascii: "}"))
  }

  static func append(quoted string: String, to text: inout [UInt8]) {
    text.append(UInt8(ascii: "\""))
    for byte in string.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        text.append(UInt8(ascii: "\\"))
        text.append(byte)
      case 0..<0x20, 0x7F:
        append(literal: "\\u00", to: &text)
        text.append(hexadecimalDigit(byte >> 4))
        text.append(hexadecimalDigit(byte & 15))
      default: text.append(byte)
      }
    }
    text.append(UInt8(ascii: "\""))
  }

  static func append(literal: StaticString, to text: inout [UInt8]) {
    literal.withUTF8Buffer { text.append(contentsOf: $0) }
  }

  static func append(_ integer: UInt64, to text: inout [UInt8]) {
    if integer >= 10 { append(integer / 10, to: &text) }
    text.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: integer % 10))
  }

  private static func hexadecimalDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + (value - 10)
  }
}
