import QMP
import Testing

@Suite struct EventTests {
  @Test func eventsComeWhileCommandsWait() throws {
    var conversation = Conversation.ready()
    let id = try conversation.session.execute("stop", deadlineNanoseconds: nil)
    conversation.feed(
      #"{"timestamp": {"seconds": 1795406654, "microseconds": 765911}, "event": "MIGRATION", "#
        + #""data": {"status": "pre-switchover"}}"# + "\r\n"
        + #"{"return": {}, "id": 1}"# + "\r\n"
        + #"{"timestamp": {"seconds": 1795406654, "microseconds": 764807}, "event": "STOP"}"#)
    #expect(
      conversation.takeNotices() == [
        .event(
          QMPEvent(
            name: "MIGRATION", data: ["status": "pre-switchover"],
            timestampMicroseconds: 1_795_406_654_765_911)),
        .reply(id, [:]),
        .event(QMPEvent(name: "STOP", timestampMicroseconds: 1_795_406_654_764_807)),
      ])
  }

  static let timestamps: [(String, Int64?)] = [
    (#"{"seconds":0,"microseconds":0}"#, 0),
    (#"{"seconds":1,"microseconds":999999}"#, 1_999_999),
    (#"{"seconds":9223372036854,"microseconds":775807}"#, .max),
    (#"{"seconds":9223372036854,"microseconds":775808}"#, nil),
    (#"{"seconds":9223372036854775807,"microseconds":0}"#, nil),
    (#"{"seconds":18446744073709551615,"microseconds":0}"#, nil),
    (#"{"seconds":-1,"microseconds":-1}"#, nil),
    (#"{"seconds":1,"microseconds":1000000}"#, nil),
    (#"{"seconds":1}"#, nil),
    (#"{"seconds":1.5,"microseconds":0}"#, nil),
    ("null", nil),
    ("7", nil),
  ]

  @Test(arguments: timestamps)
  func timestampsAreExactOrAbsent(_ text: String, _ microseconds: Int64?) {
    var conversation = Conversation.ready()
    conversation.feed(#"{"event":"STOP","timestamp":"# + text + "}")
    #expect(
      conversation.takeNotices()
        == [.event(QMPEvent(name: "STOP", timestampMicroseconds: microseconds))])
  }

  @Test func anUnknownEventIsPassedOnAsItIs() {
    var conversation = Conversation.ready()
    conversation.feed(#"{"event":"A_NAME_FROM_THE_FUTURE","data":[1,{"x":null}],"more":{}}"#)
    #expect(
      conversation.takeNotices()
        == [.event(QMPEvent(name: "A_NAME_FROM_THE_FUTURE", data: [1, ["x": nil]]))])
  }

  @Test func dataThatCannotBeReadFailsTheSession() {
    var conversation = Conversation.ready()
    conversation.feed(#"{"event":"X","data":1e999}"#)
    #expect(
      conversation.takeNotices() == [.protocolViolated("a number is too large for a double")])
  }
}
