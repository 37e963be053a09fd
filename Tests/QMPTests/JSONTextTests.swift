import QMP
import Testing

func decode(_ text: String, limits: QMPLimits = .standard) throws -> JSONValue {
  try decode(Array(text.utf8), limits: limits)
}

func decode(_ bytes: [UInt8], limits: QMPLimits = .standard) throws -> JSONValue {
  try bytes.withUnsafeBytes { try JSONText.decode($0, limits: limits) }
}

func encode(_ value: JSONValue) -> String {
  String(decoding: JSONText.encode(value), as: UTF8.self)
}

@Suite struct JSONTextTests {
  static let accepted: [(String, JSONValue)] = [
    ("{}", [:]),
    ("[]", []),
    (" \t\r\n{ } \n", [:]),
    ("null", nil),
    ("true", true),
    (" false ", false),
    ("7", 7),
    ("\"\"", ""),
    (#"[1,"a",{"b":[null]}]"#, [1, "a", ["b": [nil]]]),
    (#"{"a":1,"a":2}"#, ["a": 2]),
    (#"{"":0}"#, ["": 0]),
    ("9223372036854775807", .integer(.max)),
    ("9223372036854775808", .unsigned(1 << 63)),
    ("18446744073709551615", .unsigned(.max)),
    ("-9223372036854775808", .integer(.min)),
    ("-0", 0),
    ("1.5", 1.5),
    ("-1.25e+2", -125.0),
    ("1E5", 100000.0),
    ("0e0", 0.0),
    ("123456789012345678901234.0", 123456789012345678901234.0),
    ("1e-400", 0.0),
    (#""\u00e9\u00C9""#, "éÉ"),
    (#""\ud83d\ude00""#, "😀"),
    (#""\ud83d""#, "\u{FFFD}"),
    (#""\ude00x""#, "\u{FFFD}x"),
    (#""\ud83dx""#, "\u{FFFD}x"),
    (#""\ud83d\u0041""#, "\u{FFFD}A"),
    (#""\ud83d\ud83d\ude00""#, "\u{FFFD}😀"),
    (#""\ud83d\n""#, "\u{FFFD}\n"),
    (#""a\u0000b""#, "a\0b"),
    (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
    ("\"é€😀\u{7f}\u{10FFFF}\"", "é€😀\u{7f}\u{10FFFF}"),
    (#"{"\u00e9":1}"#, ["é": 1]),
    (#"{"a":"\u0000","b":1}"#, ["a": "\0", "b": 1]),
  ]

  @Test(arguments: accepted)
  func accepts(_ text: String, _ value: JSONValue) throws {
    #expect(try decode(text) == value)
  }

  static let refused: [(String, String, Int)] = [
    ("", "the text ends early", 0),
    ("  ", "the text ends early", 2),
    ("{", "the text ends early", 1),
    ("[1", "the text ends early", 2),
    ("\"abc", "the text ends early", 4),
    ("tru", "boolean expected", 3),
    ("-", "a number is malformed", 1),
    ("1.", "a number is malformed", 2),
    ("1e", "a number is malformed", 2),
    ("1e+", "a number is malformed", 3),
    ("01", "a number is malformed", 1),
    ("-01", "a number is malformed", 2),
    ("[1.e5]", "a number is malformed", 3),
    ("[1a]", "a number is malformed", 2),
    ("[1-2]", "a number is malformed", 2),
    ("+1", "a byte stands where JSON has none like it", 0),
    (".5", "a byte stands where JSON has none like it", 0),
    ("18446744073709551616", "an integer does not fit 64 bits", 20),
    ("[99999999999999999999999999]", "an integer does not fit 64 bits", 27),
    ("-9223372036854775809", "an integer does not fit 64 bits", 20),
    ("1e999", "a number is too large for a double", 5),
    ("NaN", "a byte stands where JSON has none like it", 0),
    ("Infinity", "a byte stands where JSON has none like it", 0),
    ("[-Infinity]", "a number is malformed", 2),
    ("True", "a byte stands where JSON has none like it", 0),
    ("nul1", "null expected", 3),
    ("{'a':1}", "a byte stands where JSON has none like it", 1),
    ("/**/{}", "a byte stands where JSON has none like it", 0),
    ("{} x", "something follows the value", 3),
    ("{}{}", "something follows the value", 2),
    ("1 2", "unexpected character", 2),
    ("[1,]", "unexpected character", 3),
    (#"{"a":1,}"#, "unexpected character", 7),
    (#"{"a" 1}"#, "object property name separator ':' expected", 5),
    ("[1 2]", "array value separator ',' expected", 3),
    ("[}", "unexpected character", 1),
    ("]", "a byte stands where JSON has none like it", 0),
    ("{]", "quoted object property name expected", 1),
    (#""\x""#, "invalid string sequence", 2),
    (#""\u12G4""#, "a byte stands where JSON has none like it", 5),
    ("\"\t\"", "a control character stands in a string", 1),
    ("\"\0\"", "a control character stands in a string", 1),
    ("{}\0", "something follows the value", 2),
    ("[\0]", "a byte stands where JSON has none like it", 1),
    (#"{"a\u0000b":1}"#, "a member name holds a NUL character", 11),
  ]

  @Test(arguments: refused)
  func refuses(_ text: String, _ why: String, _ offset: Int) {
    #expect(throws: JSONParseError(text: why, offset: offset)) { try decode(text) }
  }

  static let brokenUTF8: [[UInt8]] = [
    [0x80], [0xC0, 0x80], [0xC1, 0xBF], [0xC3, 0x28], [0xE0, 0x9F, 0xBF], [0xED, 0xA0, 0x80],
    [0xE2, 0x82], [0xF0, 0x8F, 0xBF, 0xBF], [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80],
    [0xFF], [0xF0, 0x9F, 0x98, 0x22],
  ]

  @Test(arguments: brokenUTF8)
  func refusesWhatIsNotUTF8(_ bytes: [UInt8]) {
    let text = [UInt8(ascii: "\"")] + bytes + [UInt8(ascii: "\"")]
    #expect { try decode(text) } throws: {
      ($0 as? JSONParseError)?.text == "a string is not UTF-8"
    }
  }

  static let written: [(JSONValue, String)] = [
    (nil, "null"),
    ([true, false], "[true,false]"),
    (.integer(.min), "-9223372036854775808"),
    (.unsigned(.max), "18446744073709551615"),
    (0, "0"),
    (1.5, "1.5"),
    (.number(-0.0), "-0.0"),
    (.number(1e300), "1e+300"),
    (.number(.nan), "null"),
    (.number(.infinity), "null"),
    ("a/b\"\\\n\u{0}\u{1f}\u{7f}é😀", #""a/b\"\\\u000a\u0000\u001f\u007fé😀""#),
    ([:], "{}"),
    (["b": [], "a": ["c": 1]], #"{"b":[],"a":{"c":1}}"#),
  ]

  @Test(arguments: written)
  func writes(_ value: JSONValue, _ text: String) {
    #expect(encode(value) == text)
  }

  @Test(arguments: accepted)
  func readsWhatItWrote(_ text: String, _ value: JSONValue) throws {
    #expect(try decode(encode(decode(text))) == value)
  }

  @Test func numbersSurviveInEveryMagnitude() throws {
    for shift in 0..<64 {
      let power = UInt64(1) << shift
      for value in [power - 1, power, power + 1] {
        #expect(try decode(encode(JSONValue(value))).uint64 == value)
        let negative = Int64(truncatingIfNeeded: 0 &- value)
        #expect(try decode(encode(.integer(negative))).int64 == negative)
      }
    }
    for value in [Double.leastNonzeroMagnitude, .greatestFiniteMagnitude, .pi, 1e15, 1e16, 1e17] {
      #expect(try decode(encode(.number(value))).double == value)
    }
  }

  @Test func limitsHoldExactly() throws {
    let limits = QMPLimits(maximumLineBytes: 64, maximumDepth: 3, maximumValues: 4)
    #expect(try decode("[[[]]]", limits: limits) == [[[]]])
    #expect(throws: JSONParseError(text: "a message nests deeper than 3 levels", offset: 3)) {
      try decode("[[[[]]]]", limits: limits)
    }
    #expect(try decode("[1,2,3,4]", limits: limits).array?.count == 4)
    #expect(throws: JSONParseError(text: "a message has more than 4 values", offset: 8)) {
      try decode("[1,2,3,4,5]", limits: limits)
    }
    let longest = "\"" + String(repeating: "x", count: 62) + "\""
    #expect(try decode("  " + longest, limits: limits).string?.count == 62)
    #expect(throws: JSONParseError(text: "a message is longer than 64 bytes", offset: 64)) {
      try decode("\"x" + longest.dropFirst(), limits: limits)
    }
  }

  @Test func depthIsBoundedWhateverTheOwnerAsksFor() throws {
    let limits = QMPLimits(maximumDepth: .max)
    let deepest = String(repeating: "[", count: 256) + String(repeating: "]", count: 256)
    _ = try decode(deepest, limits: limits)
    #expect(throws: JSONParseError.self) { try decode("[" + deepest + "]", limits: limits) }
    #expect(throws: JSONParseError.self) {
      try decode("{}", limits: QMPLimits(maximumLineBytes: -1))
    }
  }
}
