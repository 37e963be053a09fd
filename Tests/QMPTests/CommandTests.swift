import QMP
import Testing

@Suite struct CommandTests {
  @Test func commandsAreShortLines() throws {
    var conversation = Conversation.ready(wantsOutOfBand: true)
    _ = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    #expect(conversation.takeText() == #"{"execute":"cont","id":1}"# + "\n")
    #expect(conversation.takeText() == "")
    _ = try conversation.session.execute(
      "migrate", arguments: ["uri": "tcp:[::1]:4444", "detach": true, "size": .unsigned(.max)],
      deadlineNanoseconds: nil)
    #expect(
      conversation.takeText()
        == #"{"execute":"migrate","arguments":{"uri":"tcp:[::1]:4444","detach":true,"#
        + #""size":18446744073709551615},"id":2}"# + "\n")
    _ = try conversation.session.execute(
      "yank", arguments: ["instances": [["type": "migration"]]], outOfBand: true,
      deadlineNanoseconds: nil)
    #expect(
      conversation.takeText()
        == #"{"exec-oob":"yank","arguments":{"instances":[{"type":"migration"}]},"id":3}"# + "\n")
  }

  @Test func queuedCommandsTravelInOneWrite() throws {
    var conversation = Conversation.ready()
    _ = try conversation.session.execute("nbd-server-stop", deadlineNanoseconds: nil)
    _ = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    #expect(
      conversation.takeText()
        == #"{"execute":"nbd-server-stop","id":1}"# + "\n" + #"{"execute":"cont","id":2}"# + "\n")
  }

  @Test func repliesFindTheirCommandsInAnyOrder() throws {
    var conversation = Conversation.ready()
    let ids = try (0..<4).map { _ in
      try conversation.session.execute("query-status", deadlineNanoseconds: nil)
    }
    conversation.feed(
      #"{"return":3,"id":4}{"return":[],"id":2} {"id":1,"return":null}"# + "\r\n"
        + #"{"id":3,"error":{"class":"GenericError","desc":"Failed to get \"write\" lock"}}"#)
    let error = QMPCommandError(
      errorClass: "GenericError", text: "Failed to get \"write\" lock")
    #expect(
      conversation.takeNotices() == [
        .reply(ids[3], 3), .reply(ids[1], []), .reply(ids[0], nil), .commandFailed(ids[2], error),
      ])
    #expect(conversation.session.unknownReplies == 0)
  }

  static let oddErrors: [(String, QMPCommandError)] = [
    (#"{"error":{},"id":1}"#, QMPCommandError(errorClass: "", text: "")),
    (#"{"error":null,"id":1}"#, QMPCommandError(errorClass: "", text: "")),
    (#"{"error":"no","id":1}"#, QMPCommandError(errorClass: "", text: "")),
    (#"{"error":{"class":7,"desc":[]},"id":1}"#, QMPCommandError(errorClass: "", text: "")),
    (
      #"{"error":{"class":"DeviceNotFound"},"id":1}"#,
      QMPCommandError(errorClass: "DeviceNotFound", text: "")
    ),
    (#"{"error":{"desc":"why"},"id":1}"#, QMPCommandError(errorClass: "", text: "why")),
  ]

  @Test(arguments: oddErrors)
  func anErrorIsAFailureHoweverItIsWorded(_ text: String, _ error: QMPCommandError) throws {
    var conversation = Conversation.ready()
    let id = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    conversation.feed(text)
    #expect(conversation.takeNotices() == [.commandFailed(id, error)])
  }

  static let repliesOfNobody = [
    #"{"return":{},"id":"1"}"#, #"{"return":{}}"#, #"{"return":{},"id":null}"#,
    #"{"return":{},"id":-1}"#, #"{"return":{},"id":1.0}"#, #"{"return":{},"id":[1]}"#,
    #"{"return":{},"id":{"id":1}}"#, #"{"return":{},"id":2}"#, #"{"return":{},"id":true}"#,
    #"{"return":{},"id":18446744073709551615}"#, #"{"return":{},"id":9223372036854775808}"#,
    #"{"error":{"class":"GenericError","desc":"JSON parse error"}}"#,
    #"{"error":{},"id":"1"}"#, #"{"error":{},"id":2}"#,
  ]

  @Test(arguments: repliesOfNobody)
  func aReplyToNobodyChangesNothing(_ text: String) throws {
    var conversation = Conversation.ready()
    let id = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    conversation.feed(text)
    #expect(conversation.takeNotices() == [])
    #expect(conversation.session.unknownReplies == 1)
    #expect(conversation.session.state == .ready)
    conversation.feed(#"{"return":{},"id":1}"#)
    #expect(conversation.takeNotices() == [.reply(id, [:])])
  }

  @Test func theSecondOfTwoRepliesIsUnknown() throws {
    var conversation = Conversation.ready()
    let id = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    conversation.feed(#"{"return":{},"id":1}{"error":{},"id":1}{"return":{},"id":1}"#)
    #expect(conversation.takeNotices() == [.reply(id, [:])])
    #expect(conversation.session.unknownReplies == 2)
    #expect(conversation.session.lateReplies == 0)
  }

  static let unknownMessages = [
    "{}", #"{"id":1}"#, #"{"return":{},"error":{},"id":1}"#,
    #"{"event":"STOP","return":{},"id":1}"#,
    #"{"event":"STOP","error":{}}"#, #"{"event":1}"#, #"{"event":null}"#, #"{"news":{"return":1}}"#,
  ]

  @Test(arguments: unknownMessages)
  func aMessageOfAnUnknownKindChangesNothing(_ text: String) throws {
    var conversation = Conversation.ready()
    let id = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    conversation.feed(text)
    #expect(conversation.takeNotices() == [])
    #expect(conversation.session.unknownMessages == 1)
    #expect(conversation.session.unknownReplies == 0)
    conversation.feed(#"{"return":{},"id":1}"#)
    #expect(conversation.takeNotices() == [.reply(id, [:])])
  }

  @Test func waitingCommandsAreBounded() throws {
    var conversation = Conversation.ready(limits: QMPLimits(maximumPendingCommands: 2))
    _ = try conversation.session.execute("a", deadlineNanoseconds: nil)
    _ = try conversation.session.execute("b", deadlineNanoseconds: nil)
    #expect(throws: QMPSessionError.tooManyPending) {
      try conversation.session.execute("c", deadlineNanoseconds: nil)
    }
    conversation.feed(#"{"return":{},"id":2}"#)
    #expect(try conversation.session.execute("d", deadlineNanoseconds: nil).rawValue == 3)
  }

  @Test(arguments: [true, false])
  func outputIsBounded(isReady: Bool) throws {
    let limits = QMPLimits(maximumOutputBytes: 100)
    var conversation =
      isReady ? Conversation.ready(limits: limits) : Conversation(limits: limits)
    let long: JSONObject = ["text": .string(String(repeating: "x", count: 60))]
    _ = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    #expect(throws: QMPSessionError.tooMuchOutput) {
      try conversation.session.execute("long", arguments: long, deadlineNanoseconds: nil)
    }
    _ = try conversation.session.execute("stop", deadlineNanoseconds: nil)
    if !isReady {
      conversation.feed(Conversation.greeting)
      _ = conversation.takeText()
      conversation.feed(#"{"return":{},"id":0}"#)
    }
    #expect(
      conversation.takeText()
        == #"{"execute":"cont","id":1}"# + "\n" + #"{"execute":"stop","id":2}"# + "\n")
  }

  @Test func endOfStreamLosesEveryCommandInFlight() throws {
    var conversation = Conversation.ready()
    let first = try conversation.session.execute("a", deadlineNanoseconds: 5)
    let second = try conversation.session.execute("b", deadlineNanoseconds: nil)
    let third = try conversation.session.execute("c", deadlineNanoseconds: nil)
    conversation.feed(#"{"return":{},"id":2}{"return":"#)
    #expect(conversation.takeNotices() == [.reply(second, [:])])
    conversation.session.streamEnded(notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.lost(first), .lost(third)])
    #expect(conversation.session.state == .ended)
    #expect(conversation.session.nextDeadlineNanoseconds == nil)
    #expect(conversation.takeText() == "")
    #expect(throws: QMPSessionError.notUsable) {
      try conversation.session.execute("d", deadlineNanoseconds: nil)
    }
    conversation.session.streamEnded(notices: &conversation.notices)
    conversation.session.deadlineReached(nowNanoseconds: .max, notices: &conversation.notices)
    conversation.feed(#"{"return":{},"id":1}"#)
    #expect(conversation.takeNotices() == [])
  }

  @Test func aFailedSessionStillReportsItsCommands() throws {
    var conversation = Conversation.ready()
    let timed = try conversation.session.execute("a", deadlineNanoseconds: 5)
    let other = try conversation.session.execute("b", deadlineNanoseconds: nil)
    conversation.feed("{nonsense")
    #expect(
      conversation.takeNotices()
        == [.protocolViolated("quoted object property name expected")])
    #expect(conversation.takeText() == "")
    #expect(throws: QMPSessionError.notUsable) {
      try conversation.session.execute("c", deadlineNanoseconds: nil)
    }
    conversation.session.deadlineReached(nowNanoseconds: 5, notices: &conversation.notices)
    conversation.session.streamEnded(notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.timedOut(timed), .lost(other)])
    #expect(conversation.session.state == .failed("quoted object property name expected"))
  }

  @Test func aReplyThatCannotBeReadLosesItsCommand() throws {
    var conversation = Conversation.ready()
    let id = try conversation.session.execute("query-migrate", deadlineNanoseconds: nil)
    conversation.feed(#"{"return":{"mbps":1e999},"id":1}"#)
    #expect(
      conversation.takeNotices()
        == [.lost(id), .protocolViolated("a number is too large for a double")])
  }
}
