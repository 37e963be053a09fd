import Foundation

/// A JSON value as the harness's own monitor client reads it.
public enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int64)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// Reads JSON text with Foundation, independently of the library under test.
  public init(text: Data) throws {
    self.init(foundation: try JSONSerialization.jsonObject(with: text, options: .fragmentsAllowed))
  }

  private init(foundation value: Any) {
    switch value {
    case let value as [String: Any]: self = .object(value.mapValues(JSONValue.init(foundation:)))
    case let value as [Any]: self = .array(value.map(JSONValue.init(foundation:)))
    case let value as String: self = .string(value)
    case let value as NSNumber: self = JSONValue(number: value)
    default: self = .null
    }
  }

  private init(number: NSNumber) {
    switch String(cString: number.objCType) {
    case "c", "B": self = .bool(number.boolValue)
    case "d", "f": self = .number(number.doubleValue)
    default: self = .integer(number.int64Value)
    }
  }

  /// The value as JSON text.
  public var text: Data {
    get throws {
      try JSONSerialization.data(withJSONObject: foundation, options: .fragmentsAllowed)
    }
  }

  private var foundation: Any {
    switch self {
    case .null: NSNull()
    case .bool(let value): value
    case .integer(let value): value
    case .number(let value): value
    case .string(let value): value
    case .array(let values): values.map(\.foundation)
    case .object(let members): members.mapValues(\.foundation)
    }
  }

  /// A member of an object; nil for anything else.
  public subscript(_ name: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members[name]
  }

  public var string: String? {
    guard case .string(let value) = self else { return nil }
    return value
  }

  public var integer: Int64? {
    guard case .integer(let value) = self else { return nil }
    return value
  }

  public var bool: Bool? {
    guard case .bool(let value) = self else { return nil }
    return value
  }

  public var array: [JSONValue]? {
    guard case .array(let values) = self else { return nil }
    return values
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int64) { self = .integer(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements) { $1 })
  }
}
