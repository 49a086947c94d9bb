import jakarta.servlet.Filter;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.FileReader;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.Properties;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.FilterHolder;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;

/**
 * Iceberg's reference implementation of its REST protocol over a JDBC catalog, which admits the bearer tokens that are
 * in a file. Arguments: port, file of the properties of the JDBC catalog, file of tokens, one a line.
 */
public class RestCatalog {
  public static void main(String[] args) throws Exception {
    Properties file = new Properties();
    try (FileReader reader = new FileReader(args[1])) {
      file.load(reader);
    }
    JdbcCatalog catalog = new JdbcCatalog();
    catalog.setConf(new Configuration());
    catalog.initialize(
        "rest", file.stringPropertyNames().stream().collect(Collectors.toMap(name -> name, file::getProperty)));
    Set<String> admitted =
        Files.lines(Path.of(args[2])).map(token -> "Bearer " + token).collect(Collectors.toSet());
    Filter guard =
        (request, response, next) -> {
          HttpServletRequest http = (HttpServletRequest) request;
          String given = http.getHeader("Authorization");
          if (http.getRequestURI().endsWith("/oauth/tokens") || (given != null && admitted.contains(given))) {
            next.doFilter(request, response);
          } else {
            ((HttpServletResponse) response).setStatus(401);
          }
        };
    ServletContextHandler context = new ServletContextHandler();
    context.addFilter(new FilterHolder(guard), "/*", EnumSet.of(jakarta.servlet.DispatcherType.REQUEST));
    context.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    Server server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
    server.setHandler(context);
    server.start();
    server.join();
  }
}
