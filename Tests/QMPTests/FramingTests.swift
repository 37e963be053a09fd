import QMP
import Testing

@Suite struct FramingTests {
  @Test func messagesNeedNoLineEnds() {
    var conversation = Conversation.ready()
    conversation.feed(#" {"event":"A"}{"event":"B"}"# + "\n\n\r\n\t" + #"{"event":"C"} "#)
    #expect(
      conversation.takeNotices() == ["A", "B", "C"].map { .event(QMPEvent(name: $0)) })
  }

  @Test func messagesMaySpanLines() throws {
    var conversation = Conversation()
    let id = try conversation.session.execute("x", deadlineNanoseconds: nil)
    conversation.feed(try Corpus.bytes(of: "pretty-printed.qmp"))
    let greeting = QMPGreeting(
      version: QMPVersion(major: 10, minor: 0, micro: 0), offersOutOfBand: true)
    #expect(
      conversation.takeNotices() == [
        .ready(greeting, outOfBand: false),
        .reply(id, [["name": "a/b", "size": .unsigned(.max)]]),
      ])
  }

  @Test func noticesComeWithTheLastByteOfTheirMessage() {
    var conversation = Conversation.ready()
    conversation.feed(#"{"event":"STOP","data":{"a":[1]}"#, by: 1)
    #expect(conversation.takeNotices() == [])
    conversation.feed("}")
    #expect(conversation.takeNotices() == [.event(QMPEvent(name: "STOP", data: ["a": [1]]))])
  }

  @Test func whatStandsBeforeAViolationCounts() {
    var conversation = Conversation.ready()
    conversation.feed(#"{"event":"A"}{"event":"B"}]{"event":"C"}"#)
    #expect(
      conversation.takeNotices() == [
        .event(QMPEvent(name: "A")), .event(QMPEvent(name: "B")),
        .protocolViolated("a message begins with something other than '{'"),
      ])
    conversation.feed(#"{"event":"D"}"#)
    #expect(conversation.takeNotices() == [])
  }

  @Test(arguments: [1, 7, 65_536, Int.max])
  func aLineOf17MiBIsRefusedAndOneOf15IsNot(size: Int) throws {
    // A byte at a time the same limit is shown on a shorter line.
    let mebi = size < 64 ? 1 << 10 : 1 << 20
    let limits = QMPLimits(maximumLineBytes: 16 * mebi)
    var conversation = Conversation.ready(limits: limits)
    let id = try conversation.session.execute("x", deadlineNanoseconds: nil)
    let start = Array(#"{"return":""#.utf8)
    let text = [UInt8](repeating: UInt8(ascii: "x"), count: 15 * mebi)
    conversation.feed(start + text + Array(#"","id":1}"#.utf8), by: size)
    #expect(
      conversation.takeNotices()
        == [.reply(id, .string(String(decoding: text, as: UTF8.self)))])

    conversation.feed(start + text + text, by: size)
    #expect(
      conversation.takeNotices()
        == [.protocolViolated("a message is longer than \(16 * mebi) bytes")])
  }

  @Test func manySmallValuesAreRefusedBeforeTheyCostMemory() {
    var conversation = Conversation.ready()
    conversation.feed(#"{"return":["# + String(repeating: "{},", count: 1 << 20))
    #expect(
      conversation.takeNotices() == [.protocolViolated("a message has more than 65536 values")])
  }

  @Test(arguments: ["[", #"{"a":"#])
  func deepNestingIsRefused(_ opening: String) {
    for (levels, isTaken) in [(31, true), (32, false), (100_000, false)] {
      var conversation = Conversation.ready()
      let closing = opening == "[" ? "]" : "}"
      let inner = opening == "[" ? "" : "1"
      conversation.feed(
        #"{"event":"X","data":"# + String(repeating: opening, count: levels) + inner
          + String(repeating: closing, count: levels) + "}")
      let notices = conversation.takeNotices()
      #expect(notices.count == 1)
      if isTaken {
        #expect(conversation.session.state == .ready)
      } else {
        #expect(notices == [.protocolViolated("a message nests deeper than 32 levels")])
      }
    }
  }

  @Test func emptyPiecesAndWhiteSpaceWithoutEndMeanNothing() {
    var conversation = Conversation.ready(limits: QMPLimits(maximumLineBytes: 200))
    conversation.session.received(
      UnsafeRawBufferPointer(start: nil, count: 0), notices: &conversation.notices)
    for _ in 0..<100 { conversation.feed(String(repeating: " \r\n", count: 100)) }
    conversation.feed(#"{"event":"A"}"#)
    #expect(conversation.takeNotices() == [.event(QMPEvent(name: "A"))])
  }

  @Test func aCopyBetweenMessagesIsASessionOfItsOwn() throws {
    let original = Conversation.ready()
    var first = original
    var second = original
    first.feed(#"{"event":"FIRST","da"#)
    second.feed(#"{"event":"SECOND","#)
    first.feed(#"ta":1}"#)
    second.feed(#""data":2}"#)
    #expect(first.takeNotices() == [.event(QMPEvent(name: "FIRST", data: 1))])
    #expect(second.takeNotices() == [.event(QMPEvent(name: "SECOND", data: 2))])
  }

  @Test func aFailedCopyLeavesTheOtherAlone() {
    var first = Conversation.ready()
    var second = first
    first.feed("{nonsense")
    second.feed(#"{"event":"X"}"#)
    #expect(second.takeNotices() == [.event(QMPEvent(name: "X"))])
  }

  @Test func ofTwoCopiesWithinAMessageTheFirstGoesOn() {
    var first = Conversation.ready()
    first.feed(#"{"event":"#)
    var second = first
    first.feed(#""X","#)
    second.feed(#""Y"}"#)
    first.feed(#""data":1}"#)
    #expect(first.takeNotices() == [.event(QMPEvent(name: "X", data: 1))])
    #expect(
      second.takeNotices() == [.protocolViolated("two copies of one session were in use")])
  }

  @Test func aValueTakenOutAndPutBackGoesOn() {
    var conversations = [Conversation.ready()]
    for byte in #"{"event":"X"}"#.utf8 {
      var conversation = conversations[0]
      conversation.feed([byte])
      conversations[0] = conversation
    }
    #expect(conversations[0].takeNotices() == [.event(QMPEvent(name: "X"))])
  }
}
