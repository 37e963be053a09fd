import Testing

@Suite("Swift source taken apart")
struct SwiftTextTests {
  @Test func commentsAndLiteralsAreNoCode() {
    let text = SwiftText(
      """
      a() // b("x")
      /* c /* d */ "e" */ f("g\\(h(")")) i", #"j"k\\"#)
      """)
    #expect(text.code.contains("a()"))
    #expect(text.code.contains("f("))
    #expect(text.code.contains("h(\" \")") || text.code.contains("h(\")"))
    for blanked in ["b", "c", "d", "e", "g", "i", "j", "k"] {
      #expect(!text.code.contains(blanked), "\(blanked) in \(text.code)")
    }
    #expect(text.literals.map(\.text) == [")", "g i", "j\"k\\"])
    #expect(text.literals.allSatisfy { $0.line == 2 })
  }

  @Test func linesStayWhereTheyWere() {
    let text = SwiftText("/*\n\n*/ let a = \"\"\"\n  b\n  \"\"\"\nlet c = 1\n")
    #expect(text.numberedLines.first { $0.text.contains("let c") }?.number == 6)
  }
}
