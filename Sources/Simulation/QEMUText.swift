import QMP

/// JSON as QEMU spells it: a space after colon and comma, everything beyond ASCII escaped.
enum QEMUText {
  static func line(_ object: JSONObject) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity(160)
    append(object, to: &text)
    text.append(UInt8(ascii: "\r"))
    text.append(UInt8(ascii: "\n"))
    return text
  }

  private static func append(_ value: JSONValue, to text: inout [UInt8]) {
    switch value {
    case .object(let object): append(object, to: &text)
    case .array(let elements):
      text.append(UInt8(ascii: "["))
      var isFirst = true
      for element in elements {
        if !isFirst { text.append(contentsOf: ", ".utf8) }
        isFirst = false
        append(element, to: &text)
      }
      text.append(UInt8(ascii: "]"))
    case .string(let string): append(quoted: string, to: &text)
    case .integer(let number): text.append(contentsOf: String(number).utf8)
    default: text.append(contentsOf: JSONText.encode(value))
    }
  }

  private static func append(_ object: JSONObject, to text: inout [UInt8]) {
    text.append(UInt8(ascii: "{"))
    var isFirst = true
    for member in object {
      if !isFirst { text.append(contentsOf: ", ".utf8) }
      isFirst = false
      append(quoted: member.name, to: &text)
      text.append(contentsOf: ": ".utf8)
      append(member.value, to: &text)
    }
    text.append(UInt8(ascii: "}"))
  }

  private static func append(quoted string: String, to text: inout [UInt8]) {
    text.append(UInt8(ascii: "\""))
    for unit in string.utf16 {
      switch unit {
      case 0x22, 0x5C:
        text.append(UInt8(ascii: "\\"))
        text.append(UInt8(truncatingIfNeeded: unit))
      case 0x08: text.append(contentsOf: "\\b".utf8)
      case 0x09: text.append(contentsOf: "\\t".utf8)
      case 0x0A: text.append(contentsOf: "\\n".utf8)
      case 0x0C: text.append(contentsOf: "\\f".utf8)
      case 0x0D: text.append(contentsOf: "\\r".utf8)
      case 0x20..<0x7F: text.append(UInt8(truncatingIfNeeded: unit))
      default:
        text.append(contentsOf: "\\u".utf8)
        for shift in [12, 8, 4, 0] {
          text.append(hexadecimal[Int(unit >> UInt16(shift)) & 15])
        }
      }
    }
    text.append(UInt8(ascii: "\""))
  }

  private static let hexadecimal = Array("0123456789ABCDEF".utf8)
}
