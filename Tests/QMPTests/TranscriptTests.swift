import QMP
import Testing

/// A conversation recorded from QEMU 7.2: a guest started, stopped and migrated to a file, with
/// errors, pipelined and out-of-band commands.
@Suite struct TranscriptTests {
  static let summary = [
    "ready 7.2.22 oob", "reply 1", "reply 2", "event RESUME", "reply 3", "event STOP", "reply 4",
    "failed 5 CommandNotFound", "failed 6 GenericError", "reply 7", "reply 8", "reply 9",
    "reply 10", "failed 11 GenericError", "reply 12", "reply 13", "reply 14", "event RESUME",
    "reply 15", "reply 16", "event MIGRATION setup", "reply 17", "event MIGRATION_PASS",
    "event MIGRATION active", "event STOP", "event MIGRATION pre-switchover", "reply 18",
    "reply 19", "event MIGRATION device", "event MIGRATION_PASS", "event MIGRATION completed",
    "reply 20", "reply 21", "reply 22", "event SHUTDOWN", "reply 23",
  ]

  static func words(_ notice: QMPNotice) -> String {
    switch notice {
    case .ready(let greeting, let outOfBand):
      let version = greeting.version
      return "ready \(version.major).\(version.minor).\(version.micro)\(outOfBand ? " oob" : "")"
    case .reply(let id, _): return "reply \(id.rawValue)"
    case .commandFailed(let id, let error): return "failed \(id.rawValue) \(error.errorClass)"
    case .event(let event):
      return "event \(event.name)" + (event.data["status"]?.string.map { " " + $0 } ?? "")
    case .timedOut(let id): return "timed out \(id.rawValue)"
    case .lost(let id): return "lost \(id.rawValue)"
    case .protocolViolated(let text): return "violated: \(text)"
    }
  }

  /// A reply of 200 KB in one line, of the shape of `query-qmp-schema`.
  static let longReply: JSONValue = .array(
    (0..<1500).map { index in
      [
        "name": .string("\(index)"), "meta-type": "object",
        "members": [
          ["name": "device", "type": "str"], ["name": "état 😀", "default": nil, "type": "int"],
          ["name": "size", "type": .unsigned(.max - UInt64(index))],
        ],
      ]
    })

  /// The recording, with the long reply where QEMU gave its own.
  static func transcript() throws -> [UInt8] {
    let recorded = try Corpus.bytes(of: "recorded-7.2.qmp")
    let lines = recorded.split(separator: UInt8(ascii: "\n"))
    let reply = JSONText.encode(["return": longReply, "id": 22])
    let long = reply + Array("\r".utf8)
    return Array(
      (lines.dropLast(2) + [long[...]] + lines.suffix(2)).joined(separator: [UInt8(ascii: "\n")]))
  }

  static func conversation(by size: Int) throws -> Conversation {
    var conversation = Conversation(wantsOutOfBand: true)
    for _ in 1...23 {
      _ = try conversation.session.execute("x", deadlineNanoseconds: nil)
    }
    conversation.feed(try transcript(), by: size)
    return conversation
  }

  @Test(arguments: [1, 2, 3, 64, 4096, 65_536, Int.max])
  func theRecordingMeansTheSameHoweverItArrives(size: Int) throws {
    let conversation = try Self.conversation(by: size)
    #expect(conversation.notices.map(Self.words) == Self.summary)
    // The one error before the negotiation has the id of a command that nobody sent.
    #expect(conversation.session.unknownReplies == 1)
    #expect(conversation.session.unknownMessages == 0)
    #expect(conversation.session.state == .ready)
    #expect(conversation.notices.contains(.reply(QMPCommandID(rawValue: 22), Self.longReply)))
  }

  @Test func theDetailsAreExact() throws {
    let notices = try Self.conversation(by: .max).notices
    #expect(
      notices.contains(.reply(QMPCommandID(rawValue: 2), ["name": "tié😀"])))
    let stop = QMPEvent(name: "STOP", timestampMicroseconds: 1_795_406_654_764_807)
    #expect(notices.contains(.event(stop)))
    let statistics = notices.compactMap { notice -> JSONValue? in
      guard case .reply(QMPCommandID(rawValue: 20), let value) = notice else { return nil }
      return value
    }
    #expect(statistics.first?["downtime"]?.int64 == 4)
    #expect(statistics.first?["ram"]?["transferred"]?.uint64 == 558_243)
    #expect(statistics.first?["ram"]?["mbps"]?.double == 409.12228571428574)
  }

  @Test(arguments: Corpus.names)
  func everyCorpusFileMeansTheSameHoweverItArrives(_ name: String) throws {
    let bytes = try Corpus.bytes(of: name)
    var whole = Conversation(wantsOutOfBand: true)
    var pieces = whole
    for _ in 0..<5 {
      _ = try whole.session.execute("x", deadlineNanoseconds: nil)
      _ = try pieces.session.execute("x", deadlineNanoseconds: nil)
    }
    whole.feed(bytes)
    pieces.feed(bytes, by: 1)
    #expect(whole.notices == pieces.notices)
    #expect(whole.session.state == pieces.session.state)
    #expect(whole.takeText() == pieces.takeText())
    if name.hasPrefix("broken") && name != "broken-tail.qmp" || name.hasPrefix("not-qmp") {
      guard case .failed = whole.session.state else {
        Issue.record("\(name) was taken for QMP")
        return
      }
    }
  }
}
