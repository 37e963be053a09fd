/// A JSON value whose integers are exact over the whole of `Int64` and `UInt64`.
///
/// QEMU's sizes are unsigned 64-bit numbers, so they never pass through a `Double`.
public enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  /// Every integer that fits `Int64`.
  case integer(Int64)
  /// Only integers above `Int64.max`; smaller ones are `.integer`, so that equal numbers are equal.
  case unsigned(UInt64)
  /// A number written with a fraction or an exponent; always finite when it was decoded.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// The member called `member`; nil for a missing member and for a value that is no object.
  public subscript(_ member: String) -> JSONValue? {
    guard case .object(let object) = self else { return nil }
    return object[member]
  }

  /// The element at `index`; nil outside the array and for a value that is no array.
  public subscript(_ index: Int) -> JSONValue? {
    guard case .array(let elements) = self, elements.indices.contains(index) else { return nil }
    return elements[index]
  }

  /// The text of a string, otherwise nil.
  public var string: String? {
    guard case .string(let text) = self else { return nil }
    return text
  }

  /// The truth of a boolean, otherwise nil.
  public var bool: Bool? {
    guard case .bool(let truth) = self else { return nil }
    return truth
  }

  /// An integer that fits `Int64`, otherwise nil.
  public var int64: Int64? {
    switch self {
    case .integer(let value): value
    case .unsigned(let value): Int64(exactly: value)
    default: nil
    }
  }

  /// An integer that fits `UInt64`, otherwise nil.
  public var uint64: UInt64? {
    switch self {
    case .integer(let value): UInt64(exactly: value)
    case .unsigned(let value): value
    default: nil
    }
  }

  /// Any number, rounded to the nearest double where an integer has no exact one; otherwise nil.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .unsigned(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  /// The elements of an array, otherwise nil.
  public var array: [JSONValue]? {
    guard case .array(let elements) = self else { return nil }
    return elements
  }

  /// The members of an object, otherwise nil.
  public var object: JSONObject? {
    guard case .object(let object) = self else { return nil }
    return object
  }

  /// Any unsigned integer, in the one case that is right for its size.
  public init(_ value: UInt64) {
    self = Int64(exactly: value).map(JSONValue.integer) ?? .unsigned(value)
  }
}

extension JSONValue: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByStringLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(nilLiteral: ()) { self = .null }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int64) { self = .integer(value) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(stringLiteral value: String) { self = .string(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }

  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(JSONObject(elements))
  }
}
