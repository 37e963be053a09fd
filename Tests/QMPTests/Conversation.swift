import QMP

/// A session with all that it said, fed by the tests.
struct Conversation {
  static let greeting =
    #"{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 7}, "package": "Test"}, "#
    + #""capabilities": ["oob"]}}"# + "\r\n"
  static let version = QMPVersion(major: 7, minor: 2, micro: 1, package: "Test")

  var session: QMPSession
  var notices: [QMPNotice] = []

  init(
    limits: QMPLimits = .standard, wantsOutOfBand: Bool = false, negotiationID: UInt64 = 0
  ) {
    session = QMPSession(
      limits: limits, wantsOutOfBand: wantsOutOfBand, negotiationID: negotiationID)
  }

  /// A conversation that has come as far as `ready`, with nothing left to look at.
  static func ready(limits: QMPLimits = .standard, wantsOutOfBand: Bool = false) -> Conversation {
    var conversation = Conversation(limits: limits, wantsOutOfBand: wantsOutOfBand)
    conversation.feed(greeting + #"{"return": {}, "id": 0}"# + "\r\n")
    _ = conversation.takeText()
    _ = conversation.takeNotices()
    return conversation
  }

  /// Feeds the bytes of `text` in pieces of `size`.
  mutating func feed(_ text: String, by size: Int = .max) {
    feed(Array(text.utf8), by: size)
  }

  mutating func feed(_ bytes: [UInt8], by size: Int = .max) {
    bytes.withUnsafeBytes { all in
      var start = 0
      while start < all.count {
        let end = start + min(size, all.count - start)
        session.received(UnsafeRawBufferPointer(rebasing: all[start..<end]), notices: &notices)
        start = end
      }
    }
  }

  /// What was said since the last call.
  mutating func takeNotices() -> [QMPNotice] {
    defer { notices = [] }
    return notices
  }

  /// The output since the last call, as text.
  mutating func takeText() -> String {
    String(decoding: session.takeOutput(), as: UTF8.self)
  }
}
