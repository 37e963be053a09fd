import QMP
import Testing

/// QEMU sends what was meant for one client to the next one (measured on 7.2 and 10.0): ahead of the
/// greeting, and behind it until the next client's negotiation is answered.
@Suite struct StaleReplyTests {
  static let early = [
    #"{"return": {}, "id": 22}"#,
    #"{"return": []}"#,
    #"{"id": "libvirt-7", "error": {"class": "GenericError", "desc": "no"}}"#,
    #"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "data": {"status": "active"}}"#,
    #"{"event": "STOP"}"#,
  ]

  @Test(arguments: early, [1, 7, Int.max])
  func whatComesBeforeTheGreetingIsSomebodyElses(_ text: String, size: Int) throws {
    var conversation = Conversation(negotiationID: 5_000)
    conversation.feed(text + "\r\n" + text + "\r\n", by: size)
    #expect(conversation.takeNotices() == [])
    #expect(conversation.session.state == .awaitingGreeting)
    #expect(conversation.session.unknownReplies + conversation.session.unknownMessages == 2)
    conversation.feed(Conversation.greeting, by: size)
    #expect(conversation.takeText() == #"{"execute":"qmp_capabilities","id":5000}"# + "\n")
    conversation.feed(#"{"return": {}, "id": 5000}"#, by: size)
    #expect(conversation.takeNotices().count == 1)
    #expect(conversation.session.state == .ready)
  }

  @Test func nobodySpeaksLongBeforeTheGreeting() {
    let event = #"{"event": "STOP"}"# + "\r\n"
    var conversation = Conversation(limits: QMPLimits(maximumEarlyBytes: 10 * event.utf8.count))
    conversation.feed(String(repeating: event, count: 10))
    #expect(conversation.takeNotices() == [])
    conversation.feed(event)
    #expect(
      conversation.takeNotices() == [.protocolViolated("no QMP greeting within 190 bytes")])
    conversation.feed(Conversation.greeting)
    #expect(conversation.takeNotices() == [])
  }

  /// The client before counted from 0 as well, and its last command ends while this one negotiates.
  @Test(arguments: [
    #"{"return": {}, "id": 0}"#, #"{"id": 0, "error": {"class": "GenericError", "desc": "no"}}"#,
    #"{"return": {}, "id": 1}"#, #"{"id": 1, "error": {"class": "GenericError", "desc": "no"}}"#,
  ])
  func aReplyBehindTheGreetingIsSomebodyElses(_ text: String) throws {
    var conversation = Conversation(negotiationID: 7_000)
    let id = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    #expect(id.rawValue == 1)
    conversation.feed(Conversation.greeting + text + "\r\n")
    #expect(conversation.takeNotices() == [])
    #expect(conversation.session.state == .negotiating)
    #expect(conversation.session.unknownReplies == 1)
    #expect(conversation.takeText() == #"{"execute":"qmp_capabilities","id":7000}"# + "\n")
    conversation.feed(#"{"return": {}, "id": 7000}"#)
    #expect(conversation.takeText() == #"{"execute":"cont","id":1}"# + "\n")
    #expect(conversation.takeNotices().count == 1)
    conversation.feed(#"{"return": {}, "id": 1}"#)
    #expect(conversation.takeNotices() == [.reply(id, [:])])
  }

  @Test func theNextConnectionCountsOn() throws {
    var conversation = Conversation.ready()
    _ = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    var next = QMPSession(
      wantsOutOfBand: false, negotiationID: 9,
      firstCommandID: conversation.session.nextCommandID)
    #expect(try next.execute("cont", deadlineNanoseconds: nil).rawValue == 2)
  }
}
